"""Saves a stream of COUNT members of SIZE bytes into STORAGE and prints its peak memory in MB.

A storage in S3 is reached through ENDPOINT, with the keys of the environment; what goes there is noise.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tarfile
import threading
from contextlib import closing
from pathlib import Path

from backupd.progress import silent
from backupd.repository import Repository
from backupd.storage.location import open_storage
from backupd.storage.s3options import S3Options


class Members:
    """A source of `count` members of `size` bytes, made as they are read."""

    def __init__(self, count: int, size: int, *, noise: bool) -> None:
        self._left, self._size, self._noise = count, size, noise
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of `buffer`; 0 at the end."""
        if not self._rest and self._left >= 0:
            members = [self._member() for _ in range(min(1 if self._noise else 16, self._left))]
            self._rest = memoryview(b"".join(members) or bytes(10240))
            self._left = self._left if self._rest[0] else -1
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _member(self) -> bytes:
        self._left -= 1
        info = tarfile.TarInfo(f"./{self._left % 1000:03}/{self._left:08}")
        info.size = self._size
        if self._noise:
            content = random.Random(self._left).randbytes(self._size)
        else:
            content = (b"%d " % self._left) * (self._size // 2)
        return info.tobuf(tarfile.USTAR_FORMAT) + content[: self._size].ljust(
            -(-self._size // 512) * 512, b"\0"
        )


def main(location: str, count: int, size: int) -> None:
    """Save, and print."""
    options = S3Options(endpoint=os.environ.get("ENDPOINT"))
    noise = location.startswith("s3:")
    with closing(open_storage(location, options, create=True)) as storage:
        with Repository.init(storage).begin(host="h", volume="v", snapshot="s") as writer:
            content = writer.store(
                Members(count, size, noise=noise),
                at_end=lambda: None,
                progress=silent,
                cancel=threading.Event(),
            )
        assert content.members == {"file": count}
    print(peak_mb())


def peak_mb() -> int:
    """On Linux from /proc: what getrusage says begins with the peak of the process that forked this one."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) // 1024


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
