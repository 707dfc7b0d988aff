"""Slice lists: which chunks lie in which packs, for whoever has not stored them (docs/FORMAT.md)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

from backupd.errors import ObjectDamaged, ObjectNotFound
from backupd.repository.cache import Cache
from backupd.repository.sidecar import lines_of
from backupd.repository.slices import Slice, owner_of
from backupd.storage.base import Storage

LIMIT_SLICES = 65_536
"""No slice list names more."""

_LIMIT_BYTES = 16 * 1024 * 1024
_AT_ONCE = 8


def learn(storage: Storage, cache: Cache) -> None:
    """Have the cache know what all slice lists say, and nothing of those that are gone.

    One that is damaged tells nothing: what it names will be stored again.
    """
    listed = {info.key for info in storage.list("slices/")}
    if gone := cache.lists() - listed:
        cache.forget_lists(gone)
    _add_all(storage, cache, listed)
    # Where the cache's file failed meanwhile, another took its place, which knew nothing.
    _add_all(storage, cache, listed)


def _add_all(storage: Storage, cache: Cache, listed: set[str]) -> None:
    unread = sorted(listed - cache.lists())
    if not unread:
        return
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="slices") as pool:
        for at in range(0, len(unread), _AT_ONCE):
            keys = unread[at : at + _AT_ONCE]
            for key, data in zip(keys, pool.map(lambda key: _fetched(storage, key), keys), strict=True):
                if data is not None:
                    _add(cache, key, data)


def _fetched(storage: Storage, key: str) -> bytes | None:
    try:
        return storage.get(key, limit_bytes=_LIMIT_BYTES)
    except (ObjectNotFound, ObjectDamaged):
        return None


def _add(cache: Cache, key: str, data: bytes) -> None:
    try:
        cache.add_list(key, lambda: _slices(data, key))
    except ObjectDamaged:
        return


def _slices(data: bytes, key: str) -> Iterator[Slice]:
    owner = owner_of(key)
    for line in lines_of(BytesIO(data), key):
        found = Slice.parse(line, key)
        if owner_of(found.pack) != owner:
            raise ObjectDamaged(f"{key} names a pack of another writer, {found.pack}")
        yield found
