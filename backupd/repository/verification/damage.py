"""Damaged chunks are named under gc/, so that writers store their content again under another key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain

from backupd.repository.gc.condemned import Keys, load_keys, put_set, sets
from backupd.snapshot import new_id
from backupd.storage.base import Storage


class Damage:
    """The keys that all sets of damaged chunks name, as they were at one time."""

    def __init__(self, loaded: Iterable[Keys] = ()) -> None:
        self._sets = tuple(loaded)

    @classmethod
    def load(cls, storage: Storage) -> Damage:
        """The sets of a storage, each read whole; one that is damaged raises."""
        return cls(load_keys(storage, found) for found in sets(storage) if found.kind == "damaged")

    def __contains__(self, key: str) -> bool:
        return any(key in keys for keys in self._sets)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._sets)

    def mark(self, storage: Storage, keys: Iterable[str]) -> int:
        """Name those of the keys, which must come sorted, that no set names yet; how many there were."""
        new = _Counted(key for key in keys if key not in self)
        if (first := next(new, None)) is None:
            return 0
        while not put_set(storage, new_id(datetime.now(UTC)), "damaged", chain([first], new)):
            pass  # two at once; the next id is another one
        return new.count


class _Counted:
    """An iterator that knows how many it gave."""

    def __init__(self, items: Iterable[str]) -> None:
        self._items = iter(items)
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        item = next(self._items)
        self.count += 1
        return item
