"""The snapshots of a volume as retention sees them, and how one of them ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backupd.retention import Candidate
from backupd.snapshot import Manifest
from backupd.storage.base import Storage

ACCEPTED = ".accepted"
"""What the key of a mark ends with: a person has accepted that this snapshot's volume collapsed."""


@dataclass(frozen=True)
class Entry:
    """A snapshot, and whether its collapse has been accepted."""

    manifest: Manifest
    accepted: bool = False

    @property
    def collapsed(self) -> bool:
        """Whether the volume had lost nearly everything, and nobody has said that this is right."""
        return self.manifest.collapsed_from is not None and not self.accepted

    @property
    def good(self) -> bool:
        """Whether this is a snapshot to rely on: nothing changed under it, and it has not collapsed."""
        return self.manifest.outcome == "ok" and not self.collapsed

    @property
    def candidate(self) -> Candidate:
        """The snapshot as retention sees it."""
        manifest = self.manifest
        return Candidate(
            manifest.snapshot,
            manifest.started,
            manifest.parent,
            "collapsed" if self.collapsed else "good" if self.good else "fuzzy",
        )


def accept(storage: Storage, manifest: Manifest) -> None:
    """Put the mark that the collapse is accepted, durably; a second one is no error."""
    storage.put(f"{manifest.stem}{ACCEPTED}", b"")
    storage.flush()


def forget(storage: Storage, manifests: Iterable[Manifest]) -> None:
    """Delete snapshots: first every manifest, then what belonged to them, each in the order given.

    A snapshot without its manifest does not exist, so whatever interrupts this, no snapshot is there in part;
    chunks are left alone. What an interruption leaves behind are objects that nobody names.
    """
    forgotten = list(manifests)
    for manifest in forgotten:
        storage.delete(manifest.key)
    # A loss of power must not bring a manifest back whose sidecars are gone.
    storage.flush()
    for manifest in forgotten:
        for info in list(storage.list(f"{manifest.stem}.")):
            storage.delete(info.key)
    storage.flush()
