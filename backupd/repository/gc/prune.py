"""Deleting chunks that no snapshot names: no locks, no clocks, any number of hosts (docs/FORMAT.md, "Prune").

A run goes once through all there is to do: it deletes what earlier runs condemned and nobody can need any
more, and condemns what is garbage now. It never waits; the next run goes on where this one had to stop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice

from backupd.errors import Interrupted
from backupd.progress import Progress, Tally, silent
from backupd.repository.encryption.chunkkeys import chunk_of
from backupd.repository.encryption.fingerprints import Fingerprints
from backupd.repository.gc.collection import Collections, Pending
from backupd.repository.gc.condemned import Keys, put_set
from backupd.repository.gc.marks import Belongings, Marks, belongings, mark
from backupd.repository.gc.sessions import SILENT, Session, bury, grouped, live, sessions
from backupd.repository.gc.sight import FOLDERS, LAST, Sight
from backupd.snapshot import new_id
from backupd.storage.base import ObjectInfo, Storage

KEPT = timedelta(days=90)
"""How long sets and the sessions that were fenced stay after they have done their work."""

_AT_ONCE = 16
_BATCH = 256


@dataclass
class Tranche:
    """Chunks, and how large they are as stored."""

    keys: Keys = field(default_factory=Keys)
    size_bytes: int = 0

    def add(self, info: ObjectInfo) -> None:
        """Count one more."""
        self.keys.add(info.key)
        self.size_bytes += info.size_bytes


@dataclass(frozen=True)
class Plan:
    """What a run will do: delete `doomed`, condemn `garbage`, and sweep away `rubbish` that has no use.

    `finished` are the collections that have then deleted all they can, `pending` those that cannot yet;
    `held_bytes` is what these will delete.
    """

    moment: datetime
    snapshots: int
    chunks: int
    doomed: Tranche
    garbage: Tranche
    held_bytes: int
    finished: tuple[str, ...]
    pending: tuple[Pending, ...]
    strays: tuple[Belongings, ...]
    rubbish: tuple[str, ...]


def plan(
    storage: Storage,
    *,
    grace: timedelta,
    condemn: bool = True,
    dry_run: bool = False,
    progress: Progress = silent,
    cancel: threading.Event,
) -> Plan:
    """Find out what there is to do; what cannot be read, or a listing that may lack something, raises.

    Nothing is deleted. Sessions that have been silent for a day are ended or fenced, and what collections
    have to wait for is noted; with `dry_run` not even that. Without `condemn` nothing new is looked for.
    """
    with Sight(storage, None if dry_run else new_id(datetime.now(UTC))) as sight:
        collections = Collections.load(storage)
        # After the sets: a writer that is not listed now has begun after all of them, and knows them.
        writing = grouped(sight.list("sessions/"))
        if not dry_run:
            bury(storage, writing.values(), sight.now)
        alive = live(writing.values(), sight.now)
        state = collections.judge({each.name for each in alive}, sight.now, grace, note=not dry_run)
        # After all that: a snapshot that is not listed now was not committed when its writer was given up.
        whole, strays = _snapshots(storage, sight)
        marks = mark(storage, whole, progress=progress, cancel=cancel)
        # What those began who were given up just now is spared once: they may only have slept.
        sorting = _Sorting(
            collections,
            marks,
            young=min([sight.now, *(each.began for each in writing.values() if each.live)]),
        )
        count = sum(sorting.sort(info, condemn) for info in sight.list("chunks/"))
        return Plan(
            moment=sight.now,
            snapshots=len(whole),
            chunks=count,
            doomed=sorting.doomed,
            garbage=sorting.garbage,
            held_bytes=sorting.held_bytes,
            finished=state.to_finish,
            pending=state.pending,
            strays=tuple(_abandoned(sight, strays, sight.now - grace)),
            rubbish=(
                *_old_sessions(writing.values(), sight.now),
                *collections.rubbish(marks, sorting.used, sight.now - KEPT),
                *_old_probes(storage, sight.now),
            ),
        )


def execute(
    storage: Storage, plan: Plan, *, progress: Progress = silent, cancel: threading.Event
) -> str | None:
    """Do what the plan says, whenever it was made; the id of the set that was condemned, if any was."""
    _delete(storage, plan.doomed, progress, cancel)
    for set_id in plan.finished:
        put_set(storage, set_id, "finished", ())
    for stray in plan.strays:
        if not storage.exists(stray.manifest_key):
            _delete_all(storage, (info.key for info in stray.objects))
    _delete_all(storage, plan.rubbish)
    storage.flush()
    return _condemn(storage, plan.garbage.keys) if len(plan.garbage.keys) else None


def _condemn(storage: Storage, keys: Keys) -> str:
    while not put_set(storage, set_id := new_id(datetime.now(UTC)), "condemned", keys):
        pass  # another collector began in this second, with these four digits
    # Only now: who begins to write from here on knows the set.
    names = sorted(each.name for each in sessions(storage).values() if each.live)
    put_set(storage, set_id, "waiting", names)
    return set_id


class _Sorting:
    """Which chunks are to go: sorts a listing of them."""

    def __init__(self, collections: Collections, marks: Marks, young: datetime) -> None:
        self.doomed, self.garbage = Tranche(), Tranche()
        self.held_bytes = 0
        self.used: set[str] = set()
        self._collections = collections
        self._marks = marks
        self._young = young
        self._healing = Fingerprints()
        for chunk in collections.damaged_chunks(marks):
            self._healing.add(chunk)

    def sort(self, info: ObjectInfo, condemn: bool) -> bool:
        """Put a chunk where it belongs; False if it is none."""
        chunk = chunk_of(info.key)
        if chunk is None:
            return False
        if info.key in self._marks or chunk in self._healing:
            return True
        if used := self._collections.mature_with(info.key):
            self.used.update(used)
            self.doomed.add(info)
        elif self._collections.holds(info.key):
            self.held_bytes += info.size_bytes
        elif condemn and info.modified < self._young:
            self.garbage.add(info)
        return True


def _snapshots(storage: Storage, sight: Sight) -> tuple[list[str], list[Belongings]]:
    """The keys of all manifests, and what lies about without one."""
    whole, strays = [], []
    for each in belongings(sight.list("snapshots/")):
        # What was not listed may have been put while the listing came.
        if each.complete or storage.exists(each.manifest_key):
            whole.append(each.manifest_key)
        else:
            strays.append(each)
    return whole, strays


def _abandoned(sight: Sight, strays: Iterable[Belongings], before: datetime) -> Iterator[Belongings]:
    """Those whose writer has ended: sessions are listed after them, so it cannot have been overlooked.

    One that was fenced may yet wake up and put its manifest; its own time is that of its session.
    """
    writing = grouped(sight.list("sessions/"))
    for stray in strays:
        session = writing.get(stray.name)
        if (session is None or session.done) and all(info.modified < before for info in stray.objects):
            yield stray


def _old_sessions(writing: Iterable[Session], now: datetime) -> Iterator[str]:
    for session in writing:
        if session.done and session.heard < now - SILENT:
            yield from session.to_remove()
        elif not session.done and not session.live and session.heard < now - KEPT:
            # A writer died between its manifest and the proof that it is whole: it never was a snapshot.
            yield f"snapshots/{session.name}.json"
            yield from session.to_remove()


def _old_probes(storage: Storage, now: datetime) -> Iterator[str]:
    for folder in FOLDERS:
        for info in storage.list(f"{folder}{LAST}"):
            if info.modified < now - SILENT:
                yield info.key


def _delete(storage: Storage, doomed: Tranche, progress: Progress, cancel: threading.Event) -> None:
    keys, total, done = iter(doomed.keys), len(doomed.keys), 0
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="prune") as pool:
        while batch := list(islice(keys, _BATCH)):
            if cancel.is_set():
                raise Interrupted(
                    "the prune was told to stop", hint="run it again: it goes on where it stopped"
                )
            for _ in pool.map(storage.delete, batch):
                done += 1
            progress(Tally(doomed.size_bytes * done // total, done, doomed.size_bytes))
    storage.flush()


def _delete_all(storage: Storage, keys: Iterable[str]) -> None:
    for key in keys:
        storage.delete(key)
