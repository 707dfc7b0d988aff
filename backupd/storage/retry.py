"""Patience: a storage that tries again what may succeed in a moment."""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from backupd.errors import BackupdError, Interrupted, ObjectDamaged, StorageUnavailable
from backupd.storage.base import Buffer, ObjectInfo, Storage
from backupd.storage.errands import Errands

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DEADLINE_SECONDS = 300.0
FIRST_DEADLINE_SECONDS = 10.0
FIRST_WAIT_SECONDS = 0.2
WAIT_LIMIT_SECONDS = 20.0
LAST_SECONDS = 2.0
"""What a storage that works has left to end in order when the run is told to stop."""

_BLOCK = 1 << 20

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """A call that failed, and will be made again: how often it was tried, and the wait before the next."""

    attempt: int
    wait_seconds: float
    error: StorageUnavailable


class RetryingStorage:
    """Passes every call to `inner`, and again while that is unavailable, until a deadline.

    The waits double from call to call and are spread at random, so that many threads and hosts do not come
    back in the same moment. A storage that has never answered is given up soon: that is a wrong address more
    often than a storm.

    All calls may be repeated: objects are never replaced. A put that was carried out although its answer was
    lost finds its own object when it is repeated; that counts as stored.

    Once `cancel` is set nothing is tried again, no wait goes on, and after `last_seconds` no call is waited
    for: `Interrupted`. So a storage that works can still be told that a run has ended, and one that is
    silent keeps nobody. Each retry is told to `on_retry`.
    """

    def __init__(
        self,
        inner: Storage,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        first_deadline_seconds: float = FIRST_DEADLINE_SECONDS,
        last_seconds: float = LAST_SECONDS,
        cancel: threading.Event | None = None,
        on_retry: Callable[[Retry], None] = lambda retry: None,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inner = inner
        self.location = inner.location
        self.concurrency = inner.concurrency
        self._deadline_seconds = deadline_seconds
        self._first_deadline_seconds = first_deadline_seconds
        self._last_seconds = last_seconds
        self._cancel = cancel or threading.Event()
        self._on_retry = on_retry
        self._sleep = sleep or self._cancel.wait
        self._clock = clock
        self._has_answered = False
        self._cancelled_at: float | None = None
        self._errands = Errands()

    def put(self, key: str, data: Buffer) -> bool:
        return self._put(key, BytesIO(data), lambda _: self.inner.put(key, data))

    def put_file(self, key: str, file: BinaryIO) -> bool:
        return self._put(key, file, lambda rest: self.inner.put_file(key, rest))

    def flush(self) -> None:
        self._persist(self.inner.flush)

    def exists(self, key: str) -> bool:
        return self._persist(lambda: self.inner.exists(key))

    def get(self, key: str, *, limit_bytes: int) -> bytes:
        return self._persist(lambda: self.inner.get(key, limit_bytes=limit_bytes))

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        return self._persist(lambda: self.inner.get_range(key, offset, length))

    def open(self, key: str) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Resumed(self, key), _BLOCK))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """As promised; a listing that broke off goes on after the last key, which is why order matters."""
        last = ""
        listing: Iterator[ObjectInfo] | None = None

        def following() -> ObjectInfo | None:
            nonlocal listing
            try:
                listing = self.inner.list(prefix) if listing is None else listing
                return next((info for info in listing if info.key > last), None)
            except StorageUnavailable:
                listing = None
                raise

        while info := self._persist(following):
            last = info.key
            yield info

    def delete(self, key: str) -> None:
        self._persist(lambda: self.inner.delete(key))

    def close(self) -> None:
        self._errands.close()
        self.inner.close()

    def _put(self, key: str, file: BinaryIO, put: Callable[[BinaryIO], bool]) -> bool:
        start, attempts = file.tell(), 0

        def attempt() -> bool:
            nonlocal attempts
            attempts += 1
            file.seek(start)
            return put(file)

        stored = self._persist(attempt)
        if stored or attempts == 1:
            return stored
        file.seek(start)
        return self._holds(key, file)

    def _holds(self, key: str, file: BinaryIO) -> bool:
        with self.open(key) as kept:
            while block := kept.read(_BLOCK):
                if file.read(len(block)) != block:
                    return False
        return not file.read(1)

    def _persist(self, attempt: Callable[[], T]) -> T:
        waits, attempts = self._waits(), 0
        while True:
            attempts += 1
            self._leave()
            try:
                result = self._errands.run(attempt, self._leave)
            except StorageUnavailable as error:
                self._wait(Retry(attempts, next(waits, 0), error))
            except Interrupted:
                raise
            except BackupdError:
                self._has_answered = True
                raise
            else:
                self._has_answered = True
                return result

    def _wait(self, retry: Retry) -> None:
        if not self._cancel.is_set() and retry.wait_seconds:
            self._on_retry(retry)
            self._sleep(retry.wait_seconds)
        if self._cancel.is_set():
            raise Interrupted(f"{self.location} was waited for when this was told to stop") from retry.error
        if not retry.wait_seconds:
            raise retry.error

    def _leave(self) -> None:
        """`Interrupted` where the run was told to stop and the time to end in order is over."""
        if not self._cancel.is_set():
            return
        if self._cancelled_at is None:
            self._cancelled_at = self._clock()
        if self._clock() - self._cancelled_at >= self._last_seconds:
            raise Interrupted(f"{self.location} did not answer when this was told to stop")

    def _waits(self) -> Iterator[float]:
        begun, wait = self._clock(), FIRST_WAIT_SECONDS
        limit = self._deadline_seconds if self._has_answered else self._first_deadline_seconds
        while (left := begun + limit - self._clock()) > 0:
            yield min(left, wait * random.uniform(0.5, 1.5))  # noqa: S311 - spreading, not a secret
            wait = min(wait * 2, WAIT_LIMIT_SECONDS)


class _Resumed(io.RawIOBase):
    """An object as a file, which is opened again where reading broke off: it is still the same object."""

    def __init__(self, storage: RetryingStorage, key: str) -> None:
        self._storage = storage
        self._key = key
        self._at = 0
        self._file: BinaryIO | None = None
        storage._persist(self._reopen)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            block = self._storage._persist(lambda: self._read(len(view)))
        except Interrupted:
            self._file = None  # another thread may still be in it, and closing would wait for that
            raise
        view[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()

    def _reopen(self) -> BinaryIO:
        if self._file is not None:
            return self._file
        file = self._storage.inner.open(self._key)
        left = self._at
        while left:
            skipped = len(file.read(min(left, _BLOCK)))
            if not skipped:
                raise ObjectDamaged(f"{self._key} is shorter than it was")
            left -= skipped
        self._file = file
        return file

    def _read(self, size_bytes: int) -> bytes:
        file = self._reopen()
        try:
            block = file.read(size_bytes)
        except StorageUnavailable:
            file.close()
            self._file = None
            raise
        self._at += len(block)
        return block
