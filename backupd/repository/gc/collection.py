"""The collections that have begun: what they condemned, whom they wait for, and whether they may delete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from backupd.repository.encryption.chunkkeys import chunk_of
from backupd.repository.gc.condemned import Condemned, Keys, Set, load_keys, names_in, put_set, sets
from backupd.repository.gc.marks import Marks
from backupd.repository.gc.sessions import live, sessions
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

    def __init__(self, storage: Storage, found: list[Set], keys: dict[Set, Keys]) -> None:
        self._storage = storage
        self._found = found
        self._keys = keys
        self._condemned = {each.id: each for each in found if each.kind == "condemned"}
        self._mature: dict[str, Condemned] = {}
        self._held = Condemned()

    @classmethod
    def load(cls, storage: Storage) -> Collections:
        """What lies there now."""
        found = sets(storage)
        naming = [each for each in found if each.kind in ("condemned", "damaged")]
        return cls(storage, found, {each: load_keys(storage, each) for each in naming})

    def judge(self, alive: set[str], now: datetime, grace: timedelta, *, note: bool) -> State:
        """Find out which collections may delete, if these sessions live and were listed after the sets.

        A set without a note of whom to wait for gets one: its collector died in between. Whoever lives now
        and began before the set lived then, too.
        """
        noted = {each.id: each for each in self._found if each.kind == "waiting"}
        finished = {each.id for each in self._found if each.kind == "finished"}
        pending = []
        for set_id, each in self._condemned.items():
            if set_id in noted:
                outstanding = alive.intersection(names_in(self._storage, noted[set_id]))
            else:
                outstanding = alive
                if note:
                    put_set(self._storage, set_id, "waiting", sorted(alive))
            if outstanding or now < each.modified + grace:
                pending.append(Pending(set_id, each.modified + grace, tuple(sorted(outstanding))))
        held = {each.set_id for each in pending}
        self._held = Condemned((i, self._keys[each]) for i, each in self._condemned.items() if i in held)
        self._mature = {
            i: Condemned([(i, self._keys[each])]) for i, each in self._condemned.items() if i not in held
        }
        return State(tuple(i for i in self._mature if i not in finished), tuple(pending))

    def mature_with(self, key: str) -> list[str]:
        """The collections that condemned a key and may delete it."""
        return [set_id for set_id, condemned in self._mature.items() if key in condemned]

    def holds(self, key: str) -> bool:
        """Whether a collection condemned the key that may not delete yet."""
        return key in self._held

    def damaged_chunks(self, marks: Marks) -> Iterator[str]:
        """The chunks of which a damaged key is named by a snapshot: any other key of them may heal it."""
        for each in self._damaged():
            for key in self._keys[each]:
                if key in marks and (chunk := chunk_of(key)):
                    yield chunk

    def rubbish(self, marks: Marks, used: set[str], finished_before: datetime) -> Iterator[str]:
        """What may be removed, in that order.

        Collections that finished long ago, unless they just found something to delete once more; and sets of
        damaged keys that no snapshot names and no object has.
        """
        for each in self._found:
            if each.kind == "finished" and each.modified < finished_before and each.id not in used:
                yield from (f"gc/{each.id}.{kind}.zst" for kind in ("condemned", "waiting", "finished"))
            elif each.kind in ("waiting", "finished") and each.id not in self._condemned:
                yield each.info.key
        for each in self._damaged():
            if not any(key in marks or self._storage.exists(key) for key in self._keys[each]):
                yield each.info.key

    def _damaged(self) -> list[Set]:
        return [each for each in self._found if each.kind == "damaged"]


def ripe(storage: Storage, now: datetime, grace: timedelta) -> bool:
    """Whether a collection may delete that has not noted that it has; a glance, no more."""
    found = sets(storage)
    finished = {each.id for each in found if each.kind == "finished"}
    noted = {each.id: each for each in found if each.kind == "waiting"}
    alive = {each.name for each in live(sessions(storage).values(), now)}
    for each in found:
        if each.kind == "condemned" and each.id not in finished and each.modified + grace <= now:
            names = names_in(storage, noted[each.id]) if each.id in noted else alive
            if not alive.intersection(names):
                return True
    return False
