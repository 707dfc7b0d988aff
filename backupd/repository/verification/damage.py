"""Damaged packs are named under gc/, so that writers store what they held again, in packs of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain

from backupd.repository.gc.sets import packs_in, put_set, sets
from backupd.snapshot import new_id
from backupd.storage.base import Storage


class Damage:
    """The packs that all sets of damaged ones name, as they were at one time."""

    def __init__(self, packs: Iterable[str] = ()) -> None:
        self._packs = frozenset(packs)

    @classmethod
    def load(cls, storage: Storage) -> Damage:
        """The sets of a storage, each read whole; one that is damaged raises."""
        found = [each for each in sets(storage) if each.kind == "damaged"]
        return cls(chain.from_iterable(packs_in(storage, each) for each in found))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._packs))

    def mark(self, storage: Storage, packs: Iterable[str]) -> int:
        """Name those of the packs that no set names yet; how many there were."""
        new = sorted(set(packs) - self._packs)
        while new and not put_set(storage, new_id(datetime.now(UTC)), "damaged", new):
            pass  # two at once; the next id is another one
        return len(new)
