"""Packs that nobody names and that are kept: they hold what a damaged pack has lost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from backupd.errors import ObjectDamaged, ObjectNotFound
from backupd.repository.gc.marks import Marks
from backupd.repository.gc.sets import lines_in
from backupd.repository.slices import Slice, owner_of
from backupd.storage.base import Storage


@dataclass(frozen=True)
class Healing:
    """The packs that slice lists know to hold what is needed, and folders of packs of which nobody knows."""

    packs: Collection[str] = frozenset()
    folders: Collection[str] = frozenset()

    @classmethod
    def find(cls, storage: Storage, marks: Marks) -> Healing:
        """Read the slice lists, if snapshots name anything in damaged packs."""
        if not len(marks.needed):
            return cls()
        packs, folders = set(), set()
        for info in storage.list("slices/"):
            try:
                for line in lines_in(storage, info.key):
                    found = Slice.parse(line, info.key)
                    if found.chunk.encode() in marks.needed:
                        packs.add(found.pack)
            except ObjectDamaged:
                folders.add(owner_of(info.key))
            except ObjectNotFound:
                continue  # a collector has removed it, and so all packs it names
        return cls(packs, folders)

    def __contains__(self, pack: str) -> bool:
        return pack in self.packs or owner_of(pack) in self.folders
