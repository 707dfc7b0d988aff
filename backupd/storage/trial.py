"""How a storage does with one object, tried."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from backupd.errors import StorageError
from backupd.storage.base import Storage

SIZE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Trial:
    """Seconds of each step; how far the storage's clock is ahead of this machine's; whether it deletes."""

    put_seconds: float
    list_seconds: float
    get_seconds: float
    ahead_seconds: float
    deletes: bool


def trial(storage: Storage) -> Trial:
    """Put, list, read and delete an object of 64 KiB under `probe/`.

    `StorageError` where it does not come back as it was. What may not be deleted stays, and means nothing.
    """
    key, data = f"probe/{uuid.uuid4()}", os.urandom(SIZE_BYTES)
    begun = time.monotonic()
    asked = datetime.now(UTC)
    storage.put(key, data)
    storage.flush()
    put = time.monotonic()
    listed = [info for info in storage.list(key) if info.key == key]
    seen = time.monotonic()
    same = storage.get(key, limit_bytes=SIZE_BYTES) == data
    got = time.monotonic()
    if not (listed and same):
        raise StorageError(
            f"{storage.location} does not give back what was stored a moment ago",
            hint="nothing that is saved there can be relied on: use another storage",
        )
    ahead = (listed[0].modified - asked).total_seconds()
    return Trial(put - begun, seen - put, got - seen, ahead, _deleted(storage, key))


def _deleted(storage: Storage, key: str) -> bool:
    with suppress(StorageError):
        storage.delete(key)
        storage.flush()
        return True
    return False
