"""Storages that fail when told to."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from itertools import islice
from typing import BinaryIO, cast

from backupd.errors import ObjectDamaged, ObjectNotFound, StorageError
from backupd.storage.base import Buffer, ObjectInfo, Storage, check_range, ends_early


class Crash(BaseException):
    """The process ends here: nothing that catches `Exception` lives on."""


class FaultyStorage:
    """Passes every call to `inner`, which it counts, and fails those it was told to.

    Calls are numbered from 0 in the order they begin and kept in `calls` as `"put packs/…"`.
    `crash_before=n` raises `Crash` before call n and at every call after it, as a dead process makes none.
    `fail_at` maps call numbers to the error that is raised in place of the call; `fail_when` sees each call's
    text and may return one.
    """

    def __init__(
        self,
        inner: Storage,
        *,
        crash_before: int | None = None,
        fail_at: Mapping[int, StorageError] | None = None,
        fail_when: Callable[[str], StorageError | None] = lambda call: None,
    ) -> None:
        self.inner = inner
        self.location = inner.location
        self.concurrency = inner.concurrency
        self.calls: list[str] = []
        self._crash_before = crash_before
        self._fail_at = fail_at or {}
        self._fail_when = fail_when
        self._damage: dict[str, Callable[[bytes], bytes]] = {}
        self._hidden: set[str] = set()
        self._once: dict[str, StorageError] = {}
        self._after: dict[str, StorageError] = {}
        self._broken_reads: dict[str, tuple[StorageError, int]] = {}
        self._listing: tuple[StorageError | None, int, int] = (None, 0, 0)
        self._lock = threading.Lock()

    def flip_bit(self, key: str, bit: int = 0) -> None:
        """Return the object with that bit (from its beginning, modulo its length) inverted."""
        self._damage[key] = lambda content: _flipped(content, bit)

    def truncate(self, key: str, size_bytes: int) -> None:
        """Return only the beginning of the object."""
        self._damage[key] = lambda content: content[:size_bytes]

    def fail_once(self, name: str, error: StorageError) -> None:
        """Raise in place of the next call of that name (`put`); the one after works again."""
        self._once[name] = error

    def fail_after(self, name: str, error: StorageError) -> None:
        """Carry out the next call of that name and then raise, as when only the answer is lost."""
        self._after[name] = error

    def break_reads(self, key: str, error: StorageError, *, after_bytes: int) -> None:
        """Let the next file that is opened under the key raise after so many bytes."""
        self._broken_reads[key] = (error, after_bytes)

    def break_listing(self, error: StorageError | None, *, after: int, times: int = 1) -> None:
        """End the next listings after so many objects: with the error, or as if there were no more."""
        self._listing = (error, after, times)

    def hide(self, key: str) -> None:
        """Behave as if the object had vanished; putting it brings it back."""
        self._hidden.add(key)

    def put(self, key: str, data: Buffer) -> bool:
        self._enter("put", key)
        self._uncover(key)
        return self._left("put", self.inner.put(key, data))

    def put_file(self, key: str, file: BinaryIO) -> bool:
        self._enter("put_file", key)
        self._uncover(key)
        return self._left("put_file", self.inner.put_file(key, file))

    def flush(self) -> None:
        self._enter("flush")
        self.inner.flush()

    def exists(self, key: str) -> bool:
        self._enter("exists", key)
        return key not in self._hidden and self.inner.exists(key)

    def get(self, key: str, *, limit_bytes: int) -> bytes:
        self._enter("get", key)
        self._refuse_hidden(key)
        content = self._damaged(key, self.inner.get(key, limit_bytes=limit_bytes))
        if len(content) > limit_bytes:
            raise ObjectDamaged(f"{key} is larger than {limit_bytes} bytes")
        return content

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        self._enter("get_range", key)
        self._refuse_hidden(key)
        if key not in self._damage:
            return self.inner.get_range(key, offset, length)
        check_range(offset, length)
        with self.inner.open(key) as file:
            data = self._damaged(key, file.read())[offset : offset + length]
        if len(data) < length:
            raise ends_early(key, offset, length)
        return data

    def open(self, key: str) -> BinaryIO:
        self._enter("open", key)
        self._refuse_hidden(key)
        if key in self._broken_reads:
            return cast(BinaryIO, _Breaking(self.inner.open(key), *self._broken_reads.pop(key)))
        if key not in self._damage:
            return self.inner.open(key)
        with self.inner.open(key) as file:
            return BytesIO(self._damaged(key, file.read()))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._enter("list", prefix)
        return self._ended(info for info in self.inner.list(prefix) if info.key not in self._hidden)

    def delete(self, key: str) -> None:
        self._enter("delete", key)
        self.inner.delete(key)

    def close(self) -> None:
        self.inner.close()

    def _enter(self, name: str, key: str = "") -> None:
        call = f"{name} {key}".rstrip()
        with self._lock:
            number = len(self.calls)
            self.calls.append(call)
        if self._crash_before is not None and number >= self._crash_before:
            raise Crash(f"before call {number}: {call}")
        error = self._fail_at.get(number) or self._once.pop(name, None) or self._fail_when(call)
        if error is not None:
            raise error

    def _left(self, name: str, answer: bool) -> bool:
        if name in self._after:
            raise self._after.pop(name)
        return answer

    def _ended(self, listing: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        error, after, times = self._listing
        self._listing = (error, after, times - 1)
        if times <= 0:
            yield from listing
            return
        yield from islice(listing, after)
        if error is not None:
            raise error

    def _damaged(self, key: str, content: bytes) -> bytes:
        return self._damage.get(key, bytes)(content)

    def _refuse_hidden(self, key: str) -> None:
        if key in self._hidden:
            raise ObjectNotFound(f"no object {key} in {self.location}")

    def _uncover(self, key: str) -> None:
        if key in self._hidden:
            self._hidden.discard(key)
            self.inner.delete(key)


class _Breaking(io.RawIOBase):
    """A file that ends with an error."""

    def __init__(self, file: BinaryIO, error: StorageError, after_bytes: int) -> None:
        self._file = file
        self._error = error
        self._left = after_bytes

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            raise self._error
        block = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        return block

    def close(self) -> None:
        self._file.close()
        super().close()


def _flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    if damaged:
        damaged[bit // 8 % len(damaged)] ^= 1 << bit % 8
    return bytes(damaged)
