"""Saves STREAMS streams at once, each a file of SIZE bytes, into STORAGE and prints the peak memory in MB.

A storage in S3 is reached through ENDPOINT, with the keys of the environment.
"""

from __future__ import annotations

import os
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from backupd.progress import silent
from backupd.repository import Repository
from backupd.storage.location import open_storage
from backupd.storage.s3options import S3Options
from tests.unit.memory_probe import peak_mb

OPTIONS = S3Options(endpoint=os.environ.get("ENDPOINT"))
STEP_BYTES = 256 * 1024


class Noise:
    """A tar stream of one file of noise, made as it is read; `size` is a multiple of 512."""

    def __init__(self, size: int) -> None:
        info = tarfile.TarInfo("./noise")
        info.size = self._left = size
        self._rest = info.tobuf(tarfile.USTAR_FORMAT)
        self._ended = False

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of `buffer`; 0 at the end."""
        if not self._rest and self._left:
            self._rest = os.urandom(min(STEP_BYTES, self._left))
            self._left -= len(self._rest)
        elif not self._rest and not self._ended:
            self._rest, self._ended = bytes(1024), True
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def main(location: str, streams: int, size: int) -> None:
    """Save, and print."""
    with closing(open_storage(location, OPTIONS, create=True)) as storage:
        Repository.init(storage)
    together = threading.Barrier(streams)

    def save(volume: str) -> None:
        with (
            closing(open_storage(location, OPTIONS)) as storage,
            closing(Repository.open(storage)) as repository,
            repository.begin(host="h", volume=volume, snapshot="s") as writer,
        ):
            together.wait()
            content = writer.store(
                Noise(size),
                at_end=lambda: None,
                progress=silent,
                cancel=threading.Event(),
                readers=streams,
            )
            assert content.bytes.content == size

    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(save, (f"v{number}" for number in range(streams))))
    print(peak_mb())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
