"""Listings that can be relied on for deleting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from backupd.errors import RepositoryError, StorageError
from backupd.storage.base import ObjectInfo, Storage

FOLDERS = ("packs/", "sessions/", "snapshots/")
LAST = "~"
"""What the names of probes begin with: no name that stays in these folders comes after it."""


class Sight:
    """A context in which a listing proves that it is whole, and in which the storage's clock can be read.

    Each folder gets a probe that sorts after everything else; a listing that lacks it has been cut short, or
    the storage does not list what was put into it a moment ago. `now` is the storage's time once one was
    read. Without a `probe`, for those who change nothing, only the order is looked at, and the clock is this
    machine's.
    """

    def __init__(self, storage: Storage, probe: str | None) -> None:
        self._storage = storage
        self._probe = probe
        self.now = datetime.now(UTC)

    def __enter__(self) -> Sight:
        if self._probe is not None:
            for folder in FOLDERS:
                self._storage.put(self._key(folder), b"")
            self._storage.flush()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._probe is not None:
            with suppress(StorageError):
                for folder in FOLDERS:
                    self._storage.delete(self._key(folder))

    def list(self, folder: str) -> Iterator[ObjectInfo]:
        """Every object in one of the folders, in key order; `RepositoryError` where some may be missing."""
        before, found = "", self._probe is None
        for info in self._storage.list(folder):
            if info.key <= before:
                raise _short(self._storage, folder, f"{info.key} comes after {before}")
            before = info.key
            if self._probe is not None and info.key == self._key(folder):
                found, self.now = True, info.modified
            yield info
        if not found:
            raise _short(self._storage, folder, f"it lacks {self._key(folder)}, which was put a moment ago")

    def _key(self, folder: str) -> str:
        return f"{folder}{LAST}{self._probe}"


def _short(storage: Storage, folder: str, why: str) -> RepositoryError:
    return RepositoryError(
        f"{storage.location} does not list {folder} as a whole: {why}",
        hint="nothing was deleted; try again, and if it stays so do not prune on this storage",
    )
