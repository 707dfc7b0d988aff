"""Tar streams, read head by head: POSIX.1-2017 pax and ustar, GNU long names and sparse files."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from backupd.errors import StreamRejected

BLOCK = 512
HEAD_LIMIT_BYTES = 4 * 1024 * 1024
"""Extended attributes can make a head large; more than this is not a head."""

TYPES = ("file", "hardlink", "symlink", "character", "block", "directory", "fifo", "other")
"""What a member can be."""

_TYPES = dict(zip((b"0", b"1", b"2", b"3", b"4", b"5", b"6"), TYPES, strict=False)) | {
    b"\0": "file",
    b"7": "file",
}
_EXTENSIONS = frozenset(b"xgLK")
_ZERO_BLOCK = bytes(BLOCK)
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")


@dataclass(slots=True)
class Member:
    """One member: what its head says.

    `head_bytes` is the head's length and `data_bytes` that of the data after it, padding not counted; `size`
    is what a reader of the file would see. Paths are bytes as in the stream. `mtime` is in nanoseconds.
    """

    path: bytes
    type: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    target: bytes
    head_bytes: int
    data_bytes: int


def padding(size: int) -> int:
    """How many bytes fill `size` up to whole blocks."""
    return -size % BLOCK


def is_trailer(window: memoryview, at: int) -> bool:
    """Whether an end-of-archive block stands at `at`, which a whole block follows."""
    return window[at] == 0 and window[at : at + BLOCK] == _ZERO_BLOCK


def read_head(window: memoryview, at: int) -> Member | None:
    """The member whose head begins at `at`, None if more must come; `StreamRejected` if it is no head."""
    records: dict[bytes, bytes] = {}
    start = at
    while True:
        if len(window) - at < BLOCK:
            return None
        header = bytes(window[at : at + BLOCK])
        fields = _HEADER.unpack(header)
        _check(header, fields)
        if header[156] not in _EXTENSIONS:
            return _member(fields, records, at + BLOCK - start)
        size = _size(fields[4])
        end = at + BLOCK + size
        if end + padding(size) - start > HEAD_LIMIT_BYTES:
            raise StreamRejected(f"the head of a member is larger than {HEAD_LIMIT_BYTES} bytes")
        if end + padding(size) > len(window):
            return None
        _read_extension(header[156:157], bytes(window[at + BLOCK : end]), records)
        at = end + padding(size)


def _check(header: bytes, fields: tuple[bytes, ...]) -> None:
    # Adler-32's lower half is 1 + the sum of the bytes modulo 65521: the sum tar asks for, at the speed of C.
    field = fields[6]
    counted = (zlib.adler32(header) & 0xFFFF) - 1 - sum(field) + 8 * 32
    if (counted - _number(field)) % 65521:
        raise StreamRejected("a tar header has a wrong checksum", hint="the stream was damaged on its way")


def _number(field: bytes) -> int:
    try:
        number = int(field.rstrip(b" \0") or b"0", 8)
    except ValueError:
        number = -1
    if number >= 0:
        return number
    if field[0] == 0x80:  # GNU base-256
        return int.from_bytes(field[1:], "big")
    if field[0] == 0xFF:  # and negative: a time before 1970
        return int.from_bytes(field, "big", signed=True)
    raise StreamRejected(f"a tar header holds {field!r} where a number belongs")


def _size(field: bytes) -> int:
    # A negative one would lead the walk back to where it has been, for ever.
    if (size := _number(field)) < 0:
        raise StreamRejected(f"a tar header holds {field!r} where a size belongs")
    return size


def _read_extension(kind: bytes, body: bytes, records: dict[bytes, bytes]) -> None:
    if kind == b"x":
        _read_pax(body, records)
    elif kind == b"g":
        common: dict[bytes, bytes] = {}
        _read_pax(body, common)
        if common.keys() - {b"comment"}:
            raise StreamRejected("a global pax header would change the members that follow")
    elif kind == b"L":
        records[b"path"] = body.rstrip(b"\0")
    elif kind == b"K":
        records[b"linkpath"] = body.rstrip(b"\0")


def _read_pax(body: bytes, records: dict[bytes, bytes]) -> None:
    at = 0
    try:
        while at < len(body):
            space = body.index(b" ", at)
            end = at + int(body[at:space])
            key, equals, value = body[space + 1 : end - 1].partition(b"=")
            if end > len(body) or end <= space or not equals or body[end - 1] != 0x0A:
                raise ValueError
            records[key] = value
            at = end
    except ValueError:
        raise StreamRejected("a pax header is malformed") from None


def _member(fields: tuple[bytes, ...], records: dict[bytes, bytes], head_bytes: int) -> Member:
    name, mode, uid, gid, size, mtime, _, kind, link, magic, _, _, _, _, prefix = fields
    path = name.partition(b"\0")[0]
    if magic[:6] == b"ustar\0" and prefix[0]:
        path = prefix.partition(b"\0")[0] + b"/" + path
    target = link.partition(b"\0")[0]
    member = Member(
        path, _TYPES.get(kind, "other"), _size(size), _number(mode) & 0o7777, _number(uid), _number(gid),
        _number(mtime) * 1_000_000_000, target, head_bytes, 0,
    )  # fmt: skip
    if records:
        _apply(member, records)
    # Only files bring data; a hard link's size may repeat its file's.
    member.data_bytes = member.size if member.type in ("file", "other") else 0
    if real_size := records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size"):
        member.size = _decimal(real_size)
    return member


def _apply(member: Member, records: dict[bytes, bytes]) -> None:
    for key, value in records.items():
        if key == b"mtime":
            member.mtime = _nanoseconds(value)
        elif key == b"path":
            member.path = value
        elif key == b"linkpath":
            member.target = value
        elif key == b"size":
            member.size = _decimal(value)
        elif key == b"uid":
            member.uid = _decimal(value)
        elif key == b"gid":
            member.gid = _decimal(value)
    member.path = records.get(b"GNU.sparse.name", member.path)


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise StreamRejected(f"a pax header holds {value[:40]!r} where a number belongs")
    return int(value)


def _nanoseconds(value: bytes) -> int:
    sign = -1 if value.startswith(b"-") else 1
    seconds, _, fraction = value.lstrip(b"-").partition(b".")
    return sign * (
        _decimal(seconds) * 1_000_000_000 + (_decimal(fraction[:9].ljust(9, b"0")) if fraction else 0)
    )
