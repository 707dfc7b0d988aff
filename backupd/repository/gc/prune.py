"""Deleting packs that no snapshot names: no locks, no clocks, any number of hosts (docs/FORMAT.md, "Prune").

A run goes once through all there is to do: it deletes what earlier runs condemned and nobody can need any
more, condemns what is garbage now, and tells writers which packs hold little. It never waits; the next run
goes on where this one had to stop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from backupd.errors import Interrupted
from backupd.progress import Progress, Tally, silent
from backupd.repository.gc.collection import Collections, Pending
from backupd.repository.gc.healing import Healing
from backupd.repository.gc.marks import Belongings, Marks, mark
from backupd.repository.gc.sessions import bury, grouped, live, sessions
from backupd.repository.gc.sets import Kind, put_set
from backupd.repository.gc.sight import Sight
from backupd.repository.gc.sorting import Sorting, Sparse, Tranche
from backupd.repository.gc.sweeping import abandoned, old_probes, old_sessions, orphaned_lists, snapshots
from backupd.snapshot import new_id
from backupd.storage.base import Storage

_AT_ONCE = 16
_BATCH = 256


@dataclass(frozen=True)
class Plan:
    """What a run will do: delete `doomed`, condemn `garbage`, and sweep away `rubbish` that has no use.

    `held` is what collections will delete that cannot yet, the `pending` ones; `finished` will have deleted
    all they can. `news` are the keys of sets to be replaced because they do not tell writers what is `sparse`
    now: None where they do.
    """

    moment: datetime
    snapshots: int
    packs: int
    size_bytes: int
    doomed: Tranche
    garbage: Tranche
    held: Tranche
    sparse: Sparse
    news: tuple[str, ...] | None
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
        whole, strays = snapshots(storage, sight)
        marks = mark(storage, whole, damaged=collections.damaged, progress=progress, cancel=cancel)
        # What those began who were given up just now is spared once: they may only have slept.
        young = min([sight.now, *(each.began for each in writing.values() if each.live)])
        sorting = _sort(storage, sight, collections, marks, young)
        return Plan(
            moment=sight.now,
            snapshots=len(whole),
            packs=sorting.count,
            size_bytes=sorting.size_bytes,
            doomed=sorting.doomed,
            garbage=sorting.garbage if condemn else Tranche(),
            held=sorting.held,
            sparse=sorting.sparse,
            news=collections.news(sorting.sparse.packs) if condemn else None,
            finished=state.to_finish,
            pending=state.pending,
            strays=tuple(abandoned(sight, strays, sight.now - grace)),
            rubbish=(
                *old_sessions(writing.values(), sight.now),
                *collections.rubbish(marks),
                *orphaned_lists(storage, sorting.places, young),
                *old_probes(storage, sight.now),
            ),
        )


def _sort(storage: Storage, sight: Sight, collections: Collections, marks: Marks, young: datetime) -> Sorting:
    sorting = Sorting(collections, marks, healing=Healing.find(storage, marks), young=young)
    for info in sight.list("packs/"):
        sorting.sort(info)
    return sorting


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
    if plan.news is not None:
        if plan.sparse.packs:
            _put_new(storage, "sparse", plan.sparse.packs)
        _delete_all(storage, plan.news)
    storage.flush()
    return _condemn(storage, plan.garbage.packs) if plan.garbage.packs else None


def _condemn(storage: Storage, packs: list[str]) -> str:
    set_id = _put_new(storage, "condemned", packs)
    # Only now: who begins to write from here on knows the set.
    names = sorted(each.name for each in sessions(storage).values() if each.live)
    put_set(storage, set_id, "waiting", names)
    return set_id


def _put_new(storage: Storage, kind: Kind, packs: Iterable[str]) -> str:
    while not put_set(storage, set_id := new_id(datetime.now(UTC)), kind, packs):
        pass  # another collector began in this second, with these four digits
    return set_id


def _delete(storage: Storage, doomed: Tranche, progress: Progress, cancel: threading.Event) -> None:
    keys, total, done = iter(doomed.packs), len(doomed.packs), 0
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
