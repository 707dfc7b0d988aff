"""A storage that takes its time: what is put passes at a rate."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from backupd.rate import Rate
from backupd.storage.base import Buffer, ObjectInfo, Storage


class PacedStorage:
    """Another storage, into which bytes are put no faster than `rate` lets them pass.

    Reading is not held up. What `check` raises ends a put that waits; nothing is stored then.
    """

    def __init__(self, inner: Storage, rate: Rate, check: Callable[[], None]) -> None:
        self.location, self.concurrency = inner.location, inner.concurrency
        self._inner, self._rate, self._check = inner, rate, check

    def put(self, key: str, data: Buffer) -> bool:
        self._rate.take(memoryview(data).nbytes, self._check)
        return self._inner.put(key, data)

    def put_file(self, key: str, file: BinaryIO) -> bool:
        paced = _Paced(file, self._rate, self._check)
        return self._inner.put_file(key, cast(BinaryIO, paced))

    def flush(self) -> None:
        self._inner.flush()

    def exists(self, key: str) -> bool:
        return self._inner.exists(key)

    def get(self, key: str, *, limit_bytes: int) -> bytes:
        return self._inner.get(key, limit_bytes=limit_bytes)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        return self._inner.get_range(key, offset, length)

    def open(self, key: str) -> BinaryIO:
        return self._inner.open(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._inner.list(prefix)

    def delete(self, key: str) -> None:
        self._inner.delete(key)

    def close(self) -> None:
        self._inner.close()


class _Paced(io.RawIOBase):
    """A file that is read no faster than the rate; closing it leaves the file open, which is not ours."""

    def __init__(self, file: BinaryIO, rate: Rate, check: Callable[[], None]) -> None:
        self._file, self._rate, self._check = file, rate, check

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self._rate.take(len(block), self._check)
        return block

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def seekable(self) -> bool:
        return self._file.seekable()

    def readable(self) -> bool:
        return True
