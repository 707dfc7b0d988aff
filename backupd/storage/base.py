"""The promise every storage keeps: named bytes, whole or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from backupd.errors import ObjectDamaged

Buffer = bytes | bytearray | memoryview

CORES = os.cpu_count() or 1


def check_range(offset: int, length: int) -> None:
    """`ValueError` unless that is a range: it has a byte, and begins where an object can."""
    if offset < 0 or length < 1:
        raise ValueError(f"{length} bytes from {offset} on are no range")


def ends_early(key: str, offset: int, length: int) -> ObjectDamaged:
    """The error that says that an object has no such range."""
    return ObjectDamaged(
        f"{key} ends before byte {offset + length}",
        hint="restore an earlier snapshot, or bring this object back from a copy of the repository",
    )


@dataclass(frozen=True)
class ObjectInfo:
    """One stored object: its key, its size in bytes, and when the storage's own clock wrote it (UTC)."""

    key: str
    size_bytes: int
    modified: datetime


class Storage(Protocol):
    """A flat set of objects, each some bytes under a key such as `snapshots/h/v/s.json`.

    Keys are relative slash-separated paths of non-empty segments, none of them `.` or `..`, the first without
    a leading dot (`keys.check_key` has the whole rule); anything else raises `UsageError`, so that a key can
    never reach outside the storage. No key may be a folder of another one, as `a` is of `a/b`.

    Atomicity: an object is absent or whole, also after a crash or a loss of power; no reader sees a part.
    Order: what was put before `flush` returned is durable and listed; what was put after may not be yet.
    `exists`, `get`, `get_range` and `open` see every object whose `put` returned, flushed or not.
    Safety: any method may be called from any thread. An object is never replaced by other bytes.

    Every method raises `StorageError` where the storage fails, `StorageFull` where it has no room, and
    `StorageUnavailable` where the same call may succeed in a moment.
    """

    location: str
    """What a person would call this storage: a directory, `s3://bucket/prefix`, `memory`."""

    concurrency: int
    """How many calls at once keep it busy; more of them only wait for each other."""

    def put(self, key: str, data: Buffer) -> bool:
        """Keep `data` under `key` unless something is there already; True where this call stored it.

        An existing object is left alone, whatever it holds, and the answer is False.
        """
        ...

    def put_file(self, key: str, file: BinaryIO) -> bool:
        """Like `put`, for the rest of a file, which is read in blocks and need not fit into memory."""
        ...

    def flush(self) -> None:
        """Make every object put, found or deleted so far durably so; raises what kept any of them from it."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is an object under `key`."""
        ...

    def get(self, key: str, *, limit_bytes: int) -> bytes:
        """The whole object; `ObjectNotFound` if absent, `ObjectDamaged` if larger than `limit_bytes`."""
        ...

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """These `length` bytes of the object, at least one, from `offset` on; never fewer.

        `ObjectNotFound` if absent, `ObjectDamaged` where the object ends before them.
        """
        ...

    def open(self, key: str) -> BinaryIO:
        """The object as a file to read from and close; `ObjectNotFound` if absent."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with `prefix` (any string, not only whole segments), in key order."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; one that is absent already is no error."""
        ...

    def close(self) -> None:
        """Let go of threads and temporary files; flush first, and put nothing after."""
        ...
