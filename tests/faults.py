"""Storages that fail when told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import BinaryIO

from backupd.errors import ObjectDamaged, ObjectNotFound, StorageError
from backupd.storage.base import Buffer, ObjectInfo, Storage


class Crash(BaseException):
    """The process ends here: nothing that catches `Exception` lives on."""


class FaultyStorage:
    """Passes every call to `inner`, which it counts, and fails those it was told to.

    Calls are numbered from 0 in the order they begin and kept in `calls` as `"put chunks/ab/…"`.
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
        self._lock = threading.Lock()

    def flip_bit(self, key: str, bit: int = 0) -> None:
        """Return the object with that bit (from its beginning, modulo its length) inverted."""
        self._damage[key] = lambda content: _flipped(content, bit)

    def truncate(self, key: str, size_bytes: int) -> None:
        """Return only the beginning of the object."""
        self._damage[key] = lambda content: content[:size_bytes]

    def hide(self, key: str) -> None:
        """Behave as if the object had vanished; putting it brings it back."""
        self._hidden.add(key)

    def put(self, key: str, data: Buffer) -> bool:
        self._enter("put", key)
        self._uncover(key)
        return self.inner.put(key, data)

    def put_file(self, key: str, file: BinaryIO) -> bool:
        self._enter("put_file", key)
        self._uncover(key)
        return self.inner.put_file(key, file)

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

    def open(self, key: str) -> BinaryIO:
        self._enter("open", key)
        self._refuse_hidden(key)
        if key not in self._damage:
            return self.inner.open(key)
        with self.inner.open(key) as file:
            return BytesIO(self._damaged(key, file.read()))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._enter("list", prefix)
        return (info for info in self.inner.list(prefix) if info.key not in self._hidden)

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
        error = self._fail_at.get(number) or self._fail_when(call)
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


def _flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    if damaged:
        damaged[bit // 8 % len(damaged)] ^= 1 << bit % 8
    return bytes(damaged)
