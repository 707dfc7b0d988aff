"""What lies about that belongs to nothing any more."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from datetime import datetime, timedelta

from backupd.repository.gc.marks import Belongings, belongings
from backupd.repository.gc.sessions import SILENT, Session, grouped
from backupd.repository.gc.sight import FOLDERS, LAST, Sight
from backupd.repository.slices import owner_of
from backupd.storage.base import Storage

KEPT = timedelta(days=90)
"""How long sessions that were fenced stay after they have been given up."""


def snapshots(storage: Storage, sight: Sight) -> tuple[list[str], list[Belongings]]:
    """The keys of all manifests, and what lies about without one."""
    whole, strays = [], []
    for each in belongings(sight.list("snapshots/")):
        # What was not listed may have been put while the listing came.
        if each.complete or storage.exists(each.manifest_key):
            whole.append(each.manifest_key)
        else:
            strays.append(each)
    return whole, strays


def abandoned(sight: Sight, strays: Iterable[Belongings], before: datetime) -> Iterator[Belongings]:
    """Those whose writer has ended: sessions are listed after them, so it cannot have been overlooked.

    One that was fenced may yet wake up and put its manifest; its own time is that of its session.
    """
    writing = grouped(sight.list("sessions/"))
    for stray in strays:
        session = writing.get(stray.name)
        if (session is None or session.done) and all(info.modified < before for info in stray.objects):
            yield stray


def old_sessions(writing: Iterable[Session], now: datetime) -> Iterator[str]:
    """The objects of sessions that ended a day ago, or were given up a season ago."""
    for session in writing:
        if session.done and session.heard < now - SILENT:
            yield from session.to_remove()
        elif not session.done and not session.live and session.heard < now - KEPT:
            # A writer died between its manifest and the proof that it is whole: it never was a snapshot.
            yield f"snapshots/{session.name}.json"
            yield from session.to_remove()


def orphaned_lists(storage: Storage, places: Container[str], young: datetime) -> Iterator[str]:
    """The slice lists of folders in which no pack is left, but for those younger than `young`.

    A list names packs of its own folder only, and was put after them.
    """
    for info in storage.list("slices/"):
        if owner_of(info.key) not in places and info.modified < young:
            yield info.key


def old_probes(storage: Storage, now: datetime) -> Iterator[str]:
    """What collectors left that died."""
    for folder in FOLDERS:
        for info in storage.list(f"{folder}{LAST}"):
            if info.modified < now - SILENT:
                yield info.key
