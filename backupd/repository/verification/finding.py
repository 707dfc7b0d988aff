"""What keeps a snapshot from being whole, and which of its files that hits."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass, field

from backupd.errors import BackupdError
from backupd.repository.reader import SnapshotReader
from backupd.repository.verification.inventory import Inventory
from backupd.snapshot import Manifest

CHUNKS_TOLD = 1000
"""So many damaged chunks of one snapshot are told one by one; the others are counted."""

PATHS_TOLD = 100
"""So many paths are told of one damaged chunk; the others are counted."""


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
        hit = hit or _Hit()
        return cls(
            manifest.host, manifest.volume.name, manifest.snapshot, key, problem, tuple(hit.paths), hit.more
        )


@dataclass
class _Hit:
    paths: list[bytes] = field(default_factory=list)
    more: int = 0

    def add(self, path: bytes) -> None:
        if self.paths[-1:] == [path]:
            return
        if len(self.paths) < PATHS_TOLD:
            self.paths.append(path)
        else:
            self.more += 1


def hits(reader: SnapshotReader, inventory: Inventory) -> list[Finding]:
    """A finding for each chunk of the snapshot that, by the inventory, nobody can read."""
    told: dict[str, _Hit] = {}
    places, owners = array("Q"), list[_Hit]()  # which chunks by number, rising, and whose hit each one is
    untold = 0
    for place, key in enumerate(reader.chunk_keys()):
        if key not in told:
            if inventory.problem(key) is None:
                continue
            if len(told) == CHUNKS_TOLD:
                untold += 1
                continue
        places.append(place)
        owners.append(told.setdefault(key, _Hit()))
    if told:
        _add_paths(reader, places, owners)
    findings = [
        Finding.of(reader.manifest, key, inventory.problem(key) or "", hit) for key, hit in told.items()
    ]
    if untold:
        text = f"its chunk list names damaged or missing chunks {untold} times more"
        findings.append(Finding.of(reader.manifest, None, text))
    return findings


def _add_paths(reader: SnapshotReader, places: array[int], owners: list[_Hit]) -> None:
    """Note each member with the chunks that hold a part of it; none where the index cannot be read."""
    with suppress(BackupdError):
        for entry in reader.members():
            at = bisect_left(places, entry.first)
            while at < len(places) and places[at] <= entry.last:
                owners[at].add(entry.path)
                at += 1
