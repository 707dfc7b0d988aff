"""A tree of everything that is hard to keep, and a listing that shows whether it was kept."""

from __future__ import annotations

TORTURE = r"""
umask 022
mkdir -p deep plain 'odd names' links devices dates
i=0; while [ $i -lt 300 ]; do printf '%0*d\n' $((i * 37 % 5000 + 1)) $i >plain/f$i; i=$((i+1)); done
head -c 3000000 /dev/urandom >plain/noise
head -c 262144 /dev/zero >plain/exactly
: >plain/empty
python3 - <<'EOP'
import os
odd = (b'new\nline', b'caf\xe9', b'quote"\'`$x', b'-rf', b'tab\t', b' around ', b'*', b'\\back', b'\x01\x7f')
for name in odd:
    open(b'odd names/' + name, 'wb').write(name)
os.symlink(b'new\nline', b'odd names/link \xff')
os.chdir('deep')
for depth in range(17):
    os.mkdir('d' * 230)
    os.chdir('d' * 230)
open('b' * 160, 'w').write('4,094 bytes down')
os.chdir('/volume')
with open('plain/sparse', 'wb') as sparse:
    sparse.seek(50_000_000); sparse.write(b'middle'); sparse.truncate(100_000_000)
with open('plain/all-hole', 'wb') as sparse:
    sparse.truncate(30_000_000)
times = (0, 1, 999_999_999, 1_700_000_000_123_456_789, -1_500_000_000, 5_000_000_000_000_000_001)
for n, ns in enumerate(times):
    open(f'dates/{n}', 'w').close(); os.utime(f'dates/{n}', ns=(ns, ns))
os.setxattr('plain/f1', 'user.colour', b'blue\x00green'); os.setxattr('plain', 'user.dir', b'x' * 3000)
EOP
ln plain/f3 links/hard1; ln plain/f3 links/hard2; ln -s ../plain/f4 links/soft
ln -s /etc/passwd links/absolute; ln -s nowhere links/dangling; ln links/soft links/hard-to-soft
chown 70:70 plain/f5; chown 3000000000:3000000001 plain/f6; chown -h 12345:54321 links/soft
chmod 4755 plain/f7; chmod 2711 plain/f8; chmod 1777 dates; chmod 000 plain/f9; chmod 4711 plain
setfacl -m u:1234:rwx,g:4321:r plain/f10; setfacl -d -m u:99:rx links
setcap cap_net_bind_service=ep plain/f11
mknod devices/null c 1 3; mknod devices/disk b 7 200; mkfifo devices/fifo
python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('devices/socket')"
chown 4242:2424 .; chmod 2770 .; touch -d '2001-02-03 04:05:06.789012345 UTC' plain/f12 links dates .
"""
"""Run as root in the volume's root; leaves one socket, which no tar keeps."""

LISTING = r"""
python3 - <<'EOP'
import hashlib, os, stat
def walk(path):
    yield path
    if os.path.isdir(path) and not os.path.islink(path):
        for name in sorted(os.listdir(path)):
            yield from walk(path + b'/' + name)
seen = {}
for path in walk(b'.'):
    s = os.lstat(path)
    kind = stat.S_IFMT(s.st_mode)
    if kind == stat.S_IFSOCK:
        continue
    parts = [path, oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns]
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        parts.append(s.st_rdev)
    if kind == stat.S_IFREG:
        with open(path, 'rb') as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        parts += [s.st_size, digest, 'holes' if s.st_blocks * 512 < s.st_size - 8192 else 'full']
    if kind == stat.S_IFLNK:
        parts.append(os.readlink(path))
    if kind != stat.S_IFDIR:
        parts += [s.st_nlink, seen.setdefault(s.st_ino, path)]
    names = sorted(os.listxattr(path, follow_symlinks=False))
    parts += [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]
    print(*(repr(part) for part in parts))
EOP
"""
"""Prints a line for every file with all that must be kept."""
