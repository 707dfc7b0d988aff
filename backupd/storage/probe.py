"""Whether a storage does what a repository is built on, found out before one is made there."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from backupd.errors import StorageError
from backupd.storage.base import Storage

RACERS = 16
RACES = 6
"""A store that is not atomic may well let the right one win now and then."""


def probe(storage: Storage) -> list[str]:
    """Put, list, read, put again and delete objects under `probe/`, of which nothing is left; what to know.

    `StorageError` where an object is not listed as soon as it is durable, or is listed after its deletion,
    where other bytes come back, or where a second put replaces the first. Whether a repository can live with
    what else was seen is said in words.
    """
    with _cleaned(storage) as key:
        _check_order(storage, f"{key}/order")
        _check_kept(storage, f"{key}/kept")
        won = max(_race(storage, f"{key}/race/{number}") for number in range(RACES))
    if won == 1:
        return []
    return [
        f"of {RACERS} writers that stored an object of the same name at once, {won} were told that they were"
        " the first; backupd does not rely on that, other programs may"
    ]


@contextmanager
def _cleaned(storage: Storage) -> Iterator[str]:
    prefix = f"probe/{uuid.uuid4()}"
    try:
        yield prefix
    finally:
        with suppress(StorageError):  # what may be left means nothing, and what failed before is to be told
            storage.flush()
            for info in list(storage.list(f"{prefix}/")):
                storage.delete(info.key)
            storage.flush()


def _check_order(storage: Storage, key: str) -> None:
    for turn in range(3):
        storage.put(f"{key}/{turn}", b"")
        storage.flush()
        _need(storage, key, [f"{key}/{each}" for each in range(turn + 1)])
    storage.delete(f"{key}/1")
    storage.flush()
    _need(storage, key, [f"{key}/0", f"{key}/2"])


def _need(storage: Storage, prefix: str, keys: list[str]) -> None:
    if [info.key for info in storage.list(prefix)] != keys:
        raise StorageError(
            f"{storage.location} does not list at once what was stored or deleted a moment ago",
            hint="a repository there could lose chunks when old ones are collected; choose another storage",
        )


def _check_kept(storage: Storage, key: str) -> None:
    storage.put(key, b"first")
    storage.flush()
    again = storage.put(key, b"other")
    storage.flush()
    if again or storage.get(key, limit_bytes=5) != b"first":
        raise StorageError(
            f"{storage.location} lets a second put replace an object",
            hint="set s3.conditional_put = false (on every host): backupd then looks before it puts",
        )


def _race(storage: Storage, key: str) -> int:
    start = threading.Barrier(RACERS)

    def put(number: int) -> bool:
        start.wait()
        return storage.put(key, bytes([number]))

    with ThreadPoolExecutor(RACERS, thread_name_prefix="probe") as pool:
        won = list(pool.map(put, range(RACERS)))
    storage.flush()
    return won.count(True)
