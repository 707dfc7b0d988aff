"""Which packs are to go, and which hold so little that their content should move."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from backupd.repository.gc.collection import Collections
from backupd.repository.gc.healing import Healing
from backupd.repository.gc.marks import Marks
from backupd.repository.slices import is_pack, owner_of
from backupd.storage.base import ObjectInfo


@dataclass
class Tranche:
    """Packs in the order of their keys, and how large they are."""

    packs: list[str] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, info: ObjectInfo) -> None:
        """Count one more."""
        self.packs.append(info.key)
        self.size_bytes += info.size_bytes


@dataclass
class Sparse(Tranche):
    """Packs of which snapshots name less than half, and how much that is."""

    used_bytes: int = 0

    @property
    def unused_bytes(self) -> int:
        """What they hold that nobody names."""
        return self.size_bytes - self.used_bytes


class Sorting:
    """Sorts a listing of packs. What is younger than `young` is neither garbage nor sparse."""

    def __init__(self, collections: Collections, marks: Marks, *, healing: Healing, young: datetime) -> None:
        """`healing` packs stay although nobody names them: they hold what damaged ones have lost."""
        self.doomed, self.held, self.garbage, self.sparse = Tranche(), Tranche(), Tranche(), Sparse()
        self.count = self.size_bytes = 0
        self.places: set[str] = set()
        """The folders in which there are packs, as `<host>/<volume>/<snapshot>`."""
        self._collections = collections
        self._marks = marks
        self._healing = healing
        self._young = young

    def sort(self, info: ObjectInfo) -> None:
        """Put a pack where it belongs; what is no pack is passed over."""
        if not is_pack(info.key):
            return
        self.count += 1
        self.size_bytes += info.size_bytes
        self.places.add(owner_of(info.key))
        self._collections.listed(info.key)
        if info.key in self._marks:
            self._weigh(info)
        elif info.key in self._healing:
            return
        elif self._collections.dooms(info.key):
            self.doomed.add(info)
        elif self._collections.holds(info.key):
            self.held.add(info)
        elif info.modified < self._young:
            self.garbage.add(info)

    def _weigh(self, info: ObjectInfo) -> None:
        """Note a pack that is sparse, unless writers are kept from it anyway."""
        used = self._marks.used_bytes(info.key)
        known = self._collections
        if used * 2 >= info.size_bytes or info.modified >= self._young:
            return
        if not (info.key in known.damaged or known.dooms(info.key) or known.holds(info.key)):
            self.sparse.add(info)
            self.sparse.used_bytes += used
