"""What is in a snapshot."""

from __future__ import annotations

import os
from collections.abc import Iterator

from backupd.errors import SnapshotNotFound
from backupd.repository import Repository
from backupd.repository.stream.index import IndexEntry
from backupd.snapshot import Manifest


def show(repository: Repository, manifest: Manifest, path: str | None = None) -> Iterator[IndexEntry]:
    """The members at `path` and below it, or all, in tar order; `SnapshotNotFound` where there is none."""
    wanted = normalise(path or ".")
    found = False
    for entry in repository.reader(manifest).members():
        if _is_within(entry.path, wanted):
            found = True
            yield entry
    if not found:
        raise SnapshotNotFound(
            f"snapshot {manifest.snapshot} has no {path}", hint=f"see `backupd show {manifest.snapshot}`"
        )


def normalise(path: str) -> bytes:
    """A path as people give it (`etc/motd`, `/etc/`) in the form of the stream, without its last slash."""
    parts = [part for part in os.fsencode(path).split(b"/") if part not in (b"", b".")]
    return b"/".join((b".", *parts))


def _is_within(path: bytes, wanted: bytes) -> bool:
    path = path.rstrip(b"/")
    return path == wanted or path.startswith(wanted + b"/")
