"""A repository that lives as long as the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import BinaryIO

from backupd.errors import ObjectDamaged, ObjectNotFound
from backupd.storage.base import CORES, Buffer, ObjectInfo, check_range, ends_early
from backupd.storage.keys import check_key


@dataclass(frozen=True)
class _Object:
    data: bytes
    modified: datetime


class MemoryStorage:
    """Keeps objects in memory, and forgets what was not flushed when it is told to `crash`.

    It promises no more than it has to: an object is listed once it is flushed, not before.
    """

    location = "memory"
    concurrency = CORES

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._flushed: dict[str, _Object] = {}
        self._pending: dict[str, _Object] = {}
        self._lock = threading.Lock()

    def put(self, key: str, data: Buffer) -> bool:
        stored = _Object(bytes(data), self._clock())
        with self._lock:
            if check_key(key) in self._flushed:
                return False
            return self._pending.setdefault(key, stored) is stored

    def put_file(self, key: str, file: BinaryIO) -> bool:
        return self.put(key, file.read())

    def flush(self) -> None:
        with self._lock:
            self._flushed.update(self._pending)
            self._pending.clear()

    def exists(self, key: str) -> bool:
        return self._find(check_key(key)) is not None

    def get(self, key: str, *, limit_bytes: int) -> bytes:
        data = self._need(key).data
        if len(data) > limit_bytes:
            raise ObjectDamaged(f"{key} has {len(data)} bytes where at most {limit_bytes} are expected")
        return data

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        check_range(offset, length)
        data = self._need(key).data[offset : offset + length]
        if len(data) < length:
            raise ends_early(key, offset, length)
        return data

    def open(self, key: str) -> BinaryIO:
        return BytesIO(self._need(key).data)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._lock:
            found = [(k, self._flushed[k]) for k in sorted(self._flushed) if k.startswith(prefix)]
        for key, stored in found:
            yield ObjectInfo(key, len(stored.data), stored.modified)

    def delete(self, key: str) -> None:
        with self._lock:
            self._flushed.pop(check_key(key), None)
            self._pending.pop(key, None)

    def close(self) -> None:
        self.flush()

    def crash(self, survives: Callable[[str], bool] = lambda key: False) -> None:
        """Leave what a loss of power leaves: what was flushed, and of the rest what `survives` picks."""
        with self._lock:
            self._flushed.update((k, stored) for k, stored in self._pending.items() if survives(k))
            self._pending.clear()

    def _find(self, key: str) -> _Object | None:
        with self._lock:
            return self._pending.get(key) or self._flushed.get(key)

    def _need(self, key: str) -> _Object:
        stored = self._find(check_key(key))
        if stored is None:
            raise ObjectNotFound(f"no object {key} in {self.location}")
        return stored
