"""What keeps a snapshot from being whole, and which of its files that hits."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from backupd.errors import BackupdError
from backupd.repository.reader import SnapshotReader
from backupd.repository.verification.inventory import Inventory
from backupd.snapshot import Manifest

PACKS_TOLD = 1000
"""So many damaged packs of one snapshot are told one by one; the others are counted."""

PATHS_TOLD = 100
"""So many paths are told of one damaged pack; the others are counted."""


@dataclass(frozen=True)
class Finding:
    """A damaged object (None: more of them than are told) of a snapshot, and the files of it that it hits.

    Host, volume and snapshot are None where it belongs to the repository as a whole.
    """

    host: str | None
    volume: str | None
    snapshot: str | None
    object: str | None
    problem: str
    paths: tuple[bytes, ...] = ()
    more_paths: int = 0

    @classmethod
    def of(cls, manifest: Manifest, key: str | None, problem: str, hit: _Hit | None = None) -> Finding:
        """A finding in this snapshot."""
        paths, more = (tuple(hit.paths), hit.more) if hit else ((), 0)
        return cls(manifest.host, manifest.volume.name, manifest.snapshot, key, problem, paths, more)


@dataclass
class _Hit:
    """What one damaged pack does to one snapshot."""

    problem: str
    offsets: set[int] = field(default_factory=set)
    paths: list[bytes] = field(default_factory=list)
    more: int = 0

    def add(self, path: bytes) -> None:
        if self.paths[-1:] == [path]:
            return
        if len(self.paths) < PATHS_TOLD:
            self.paths.append(path)
        else:
            self.more += 1

    def __str__(self) -> str:
        others = len(self.offsets) - 1
        return self.problem + (f"; the snapshot needs {others} more chunks of it" if others else "")


def hits(reader: SnapshotReader, inventory: Inventory, damaged: Collection[str]) -> list[Finding]:
    """A finding for each of the damaged packs in which, by the inventory, nobody can read what is needed."""
    told: dict[str, _Hit] = {}
    places, owners = array("Q"), list[_Hit]()  # which chunks by number, rising, and whose hit each one is
    untold = 0
    for place, found in enumerate(reader.slices()):
        if found.pack not in damaged or (problem := inventory.problem(found)) is None:
            continue
        if found.pack not in told and len(told) == PACKS_TOLD:
            untold += 1
            continue
        hit = told.setdefault(found.pack, _Hit(problem))
        hit.offsets.add(found.offset)
        places.append(place)
        owners.append(hit)
    if told:
        _add_paths(reader, places, owners)
    findings = [Finding.of(reader.manifest, pack, str(hit), hit) for pack, hit in told.items()]
    if untold:
        text = f"its chunk list names chunks in other damaged or missing packs {untold} times more"
        findings.append(Finding.of(reader.manifest, None, text))
    return findings


def _add_paths(reader: SnapshotReader, places: array[int], owners: list[_Hit]) -> None:
    """Note each member with the packs that hold a part of it; none where the index cannot be read."""
    with suppress(BackupdError):
        for entry in reader.members():
            at = bisect_left(places, entry.first)
            while at < len(places) and places[at] <= entry.last:
                owners[at].add(entry.path)
                at += 1
