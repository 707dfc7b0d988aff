"""Who is writing: an object for each snapshot that is being made (docs/FORMAT.md, "Sessions")."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from backupd.errors import RepositoryError
from backupd.storage.base import ObjectInfo, Storage

SILENT = timedelta(hours=24)
"""A session that nothing was heard of for so long counts as dead."""

RENEW_SECONDS = 3600.0

_KEY = re.compile(r"sessions/([^/]+/[^/]+/[^/.]+)(?:\.([^/.]+))?")
_TOKEN_LIMIT_BYTES = 1024


@dataclass(frozen=True)
class Session:
    """What lies under `sessions/` for one snapshot, whose `name` is `<host>/<volume>/<snapshot>`."""

    name: str
    objects: tuple[ObjectInfo, ...]

    @property
    def live(self) -> bool:
        """Whether its writer may still commit."""
        marks = self._marks
        return "" in marks and not {"done", "fenced"} & marks.keys()

    @property
    def counts(self) -> bool:
        """Whether a manifest of it is a snapshot: a writer that was fenced must have found it whole.

        A fence around nothing is void: a slow collector put it after the session had ended and was removed.
        """
        marks = self._marks
        return "fenced" not in marks or "done" in marks or "" not in marks

    @property
    def done(self) -> bool:
        """Whether its writer has ended."""
        return "done" in self._marks

    @property
    def began(self) -> datetime:
        """When the storage's clock saw the first of it."""
        return min(info.modified for info in self.objects)

    @property
    def heard(self) -> datetime:
        """When the storage's clock saw the last of it."""
        return max(info.modified for info in self.objects)

    def to_remove(self) -> tuple[str, ...]:
        """Its keys in the order of removal, in which no reader can see less than the truth."""
        last = {"fenced": 1, "done": 2} if not self.done else {"fenced": -1, "done": 2}
        marks = sorted(self._marks, key=lambda mark: last.get(mark, 0))
        return tuple(self._marks[mark].key for mark in marks)

    @property
    def _marks(self) -> dict[str, ObjectInfo]:
        return {_mark_of(info.key): info for info in self.objects}


def sessions(storage: Storage, place: str = "") -> dict[str, Session]:
    """The sessions by name; `place` may be `<host>/` or `<host>/<volume>/`."""
    return grouped(storage.list(f"sessions/{place}"))


def grouped(infos: Iterable[ObjectInfo]) -> dict[str, Session]:
    """The sessions of a listing; what has another name than theirs is passed over."""
    found: dict[str, list[ObjectInfo]] = {}
    for info in infos:
        if match := _KEY.fullmatch(info.key):
            found.setdefault(match[1], []).append(info)
    return {name: Session(name, tuple(objects)) for name, objects in found.items()}


def end(storage: Storage, name: str) -> None:
    """Say durably that a session has ended."""
    storage.put(f"sessions/{name}.done", b"")
    storage.flush()


def fence(storage: Storage, name: str) -> None:
    """Say durably that nobody waits for a session now; its writer will look whether its chunks are left."""
    storage.put(f"sessions/{name}.fenced", b"")
    storage.flush()


def fenced(storage: Storage, name: str) -> bool:
    """Whether collectors have ceased to wait for a session; so long ago, perhaps, that all of it is gone."""
    return storage.exists(f"sessions/{name}.fenced") or not storage.exists(f"sessions/{name}")


def live(writing: Iterable[Session], now: datetime) -> list[Session]:
    """Those whose writers may commit, and have been heard of within a day."""
    return [each for each in writing if each.live and now - each.heard < SILENT]


def bury(storage: Storage, writing: Iterable[Session], now: datetime) -> None:
    """End those that are silent and have a snapshot: their writers died after it. Fence the others."""
    for each in writing:
        if not each.live or now - each.heard < SILENT:
            continue
        # In this order: a manifest that was put before there was a fence is whole.
        committed = storage.exists(f"snapshots/{each.name}.json")
        if committed and not storage.exists(f"sessions/{each.name}.fenced"):
            end(storage, each.name)
        else:
            fence(storage, each.name)


class OwnSession:
    """The session of the writer that calls."""

    def __init__(self, storage: Storage, name: str) -> None:
        self.name = name
        self._storage = storage
        self._renewals = 0
        self._renewed = time.monotonic()

    def begin(self) -> None:
        """Be seen by collectors; `RepositoryError` if another writer has this name."""
        put_own(self._storage, f"sessions/{self.name}", secrets.token_hex(16).encode())
        self._storage.flush()

    def renew(self) -> None:
        """To be called while work goes on: shows collectors, now and then, that it does."""
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        self._renewed = time.monotonic()
        self._renewals += 1
        self._storage.put(f"sessions/{self.name}.{self._renewals}", b"")
        self._storage.flush()


def put_own(storage: Storage, key: str, data: bytes) -> None:
    """Put what nobody else may have put; a call that was repeated after it had succeeded is no clash."""
    if not storage.put(key, data) and storage.get(key, limit_bytes=len(data) + _TOKEN_LIMIT_BYTES) != data:
        raise RepositoryError(f"{key} exists already", hint="run the backup again")


def _mark_of(key: str) -> str:
    return key.rpartition("/")[2].partition(".")[2]
