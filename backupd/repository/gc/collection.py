"""The collections that have begun: what they condemned, whom they wait for, and whether they may delete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from backupd.errors import ObjectNotFound
from backupd.repository.gc.absent import Absent
from backupd.repository.gc.marks import Marks
from backupd.repository.gc.sessions import live, sessions
from backupd.repository.gc.sets import Set, names_in, packs_in, put_set, sets
from backupd.storage.base import Storage


@dataclass(frozen=True)
class Pending:
    """A collection that may not delete before `until`, nor before these `sessions` have ended."""

    set_id: str
    until: datetime
    sessions: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """Which collections may delete and have not noted that they have, and which may not."""

    to_finish: tuple[str, ...]
    pending: tuple[Pending, ...]


class Collections:
    """All that lies under gc/."""

    def __init__(self, storage: Storage, found: list[Set], packs: dict[Set, frozenset[str]]) -> None:
        self._storage = storage
        self._found = found
        self._packs = packs
        self._listed: set[Set] = set()
        self._mature = self._held = Absent()
        self.damaged = frozenset[str]().union(*self._of("damaged").values())
        """The packs that were found damaged or missing."""

    @classmethod
    def load(cls, storage: Storage) -> Collections:
        """What lies there now."""
        found = sets(storage)
        naming = [each for each in found if each.kind in ("condemned", "damaged", "sparse")]
        return cls(storage, found, {each: packs_in(storage, each) for each in naming})

    def judge(self, alive: set[str], now: datetime, grace: timedelta, *, note: bool) -> State:
        """Find out which collections may delete, if these sessions live and were listed after the sets.

        A set without a note of whom to wait for gets one: its collector died in between. Whoever lives now
        and began before the set lived then, too.
        """
        noted = {each.id: each for each in self._found if each.kind == "waiting"}
        finished = {each.id for each in self._found if each.kind == "finished"}
        pending = []
        for each in self._of("condemned"):
            outstanding = _outstanding(self._storage, noted.get(each.id), alive)
            if each.id not in noted and note:
                put_set(self._storage, each.id, "waiting", sorted(alive))
            if outstanding or now < each.modified + grace:
                pending.append(Pending(each.id, each.modified + grace, tuple(sorted(outstanding))))
        held = {each.set_id for each in pending}
        condemned = self._of("condemned").items()
        self._held = Absent(packs for each, packs in condemned if each.id in held)
        self._mature = Absent(packs for each, packs in condemned if each.id not in held)
        done = finished | held
        return State(tuple(each.id for each, _ in condemned if each.id not in done), tuple(pending))

    def listed(self, pack: str) -> None:
        """Note that there is such a pack: the sets that name it stay."""
        self._listed.update(each for each, packs in self._packs.items() if pack in packs)

    def dooms(self, pack: str) -> bool:
        """Whether a collection condemned the pack that may delete now."""
        return pack in self._mature

    def holds(self, pack: str) -> bool:
        """Whether a collection condemned the pack that may not delete yet."""
        return pack in self._held

    def rubbish(self, marks: Marks) -> Iterator[str]:
        """What may be removed, in that order, once all packs there are were noted with `listed`.

        A set goes only when none of its packs is there, of damaged ones when no snapshot names one either.
        Sparse ones are replaced, not removed.
        """
        condemned = {each.id for each in self._of("condemned")}
        for each in self._found:
            if each.kind in ("waiting", "finished") and each.id not in condemned:
                yield each.info.key
        for each in self._of("condemned"):
            if each not in self._listed:
                yield from (f"gc/{each.id}.{kind}.zst" for kind in ("condemned", "waiting", "finished"))
        for each, packs in self._of("damaged").items():
            if each not in self._listed and not any(pack in marks for pack in packs):
                yield each.info.key

    def news(self, sparse: Iterable[str]) -> tuple[str, ...] | None:
        """The keys of the sets to be replaced if these packs are sparse; None if they tell just that."""
        told = self._of("sparse")
        if frozenset(sparse) == frozenset[str]().union(*told.values()):
            return None
        return tuple(each.info.key for each in told)

    def _of(self, kind: str) -> dict[Set, frozenset[str]]:
        return {each: packs for each, packs in self._packs.items() if each.kind == kind}


def ripe(storage: Storage, now: datetime, grace: timedelta) -> bool:
    """Whether a collection may delete that has not noted that it has; a glance, no more."""
    found = sets(storage)
    finished = {each.id for each in found if each.kind == "finished"}
    noted = {each.id: each for each in found if each.kind == "waiting"}
    alive = {each.name for each in live(sessions(storage).values(), now)}
    due = (
        each
        for each in found
        if each.kind == "condemned" and each.id not in finished and each.modified + grace <= now
    )
    return any(not _outstanding(storage, noted.get(each.id), alive) for each in due)


def _outstanding(storage: Storage, noted: Set | None, alive: set[str]) -> set[str]:
    """Whom of those who live a collection waits for; for all where nothing says for whom.

    A note that was listed and is gone went after its set, and that after its last pack: nothing is left.
    """
    if noted is None:
        return alive
    with suppress(ObjectNotFound):
        return alive.intersection(names_in(storage, noted))
    return alive
