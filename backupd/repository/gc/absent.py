"""Packs that count as absent for a writer: it stores their content again, into packs of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from backupd.repository.gc.sets import Kind, packs_in, sets
from backupd.storage.base import Storage

AVOIDED: Collection[Kind] = ("condemned", "damaged", "sparse")
"""A collector is about to delete them, or they were found damaged, or hold more garbage than content."""

LOST: Collection[Kind] = ("condemned", "damaged")
"""Whoever names one of these may lose what it holds; a sparse one is as safe as any."""


class Absent:
    """The packs that sets under gc/ name, as they were at one time."""

    def __init__(self, sets: Iterable[frozenset[str]] = ()) -> None:
        self._sets = tuple(sets)

    @classmethod
    def load(cls, storage: Storage, kinds: Collection[Kind] = AVOIDED) -> Absent:
        """The sets of a storage, each read whole; one that is damaged raises."""
        return cls(packs_in(storage, found) for found in sets(storage) if found.kind in kinds)

    def __contains__(self, pack: str) -> bool:
        return any(pack in packs for packs in self._sets)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._sets)
