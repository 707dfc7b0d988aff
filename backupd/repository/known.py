"""Which chunks a storage holds, so far as that is known without asking it for each.

Only where asking is dear. What is known was true once; it stays true because a session begins with forgetting
all that sets under gc/ name: a collection elsewhere either put its set before this session listed them, or
sees this session and keeps what it will name (docs/FORMAT.md). Ignorance costs a question, and never more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from backupd.errors import IntegrityError, ObjectNotFound, RepositoryUnsupported
from backupd.repository.cache import Cache
from backupd.repository.encryption.chunkkeys import chunk_of
from backupd.repository.gc.condemned import Condemned
from backupd.storage.base import Storage

_LISTED = "listed"


class Known:
    """The knowledge of one session that has begun; any thread may use it."""

    def __init__(self, storage: Storage, cache: Cache, condemned: Condemned, *, session: str) -> None:
        """Forget what is condemned; where nothing is known and it will be remembered, list all chunks."""
        self._cache = cache
        self._condemned = condemned
        cache.sync(condemned, _written(storage, session))
        self.complete = cache.lasts and not cache.has(_LISTED, "")
        """Whether all chunks were listed in this session: then hardly any is there that is not known."""
        if self.complete:
            self._add(info.key for info in storage.list("chunks/") if chunk_of(info.key))
            cache.establish(_LISTED, "")

    def learn_list(self, of: str, snapshot: str, keys: Callable[[], Iterable[str]]) -> None:
        """Know the chunks of the newest snapshot of a volume; `keys` is called if they are not known yet."""
        if self.complete or self._cache.has(of, snapshot):
            return
        try:
            self._add(keys())
        except (IntegrityError, RepositoryUnsupported, ObjectNotFound):
            return  # a snapshot that is damaged, or forgotten by now, tells nothing
        self._cache.establish(of, snapshot)

    def has(self, key: str) -> bool:
        """Whether the storage is known to hold this chunk."""
        return self._cache.knows(key)

    def learn(self, key: str) -> None:
        """Know a chunk that this session found or stored, whether durable or not."""
        self._cache.learn(key)

    def commit(self, of: str, snapshot: str) -> None:
        """Remember what this session learned, now that a durable manifest names it."""
        self._cache.confirm()
        self._cache.establish(of, snapshot)

    def _add(self, keys: Iterable[str]) -> None:
        self._cache.add(key for key in keys if key not in self._condemned)


def _written(storage: Storage, key: str) -> datetime | None:
    """When the storage's own clock wrote an object; None where it does not list it."""
    return next((info.modified for info in storage.list(key) if info.key == key), None)
