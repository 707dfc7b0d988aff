"""Which chunks a writer may name without storing them: what slice lists say, as far as it still holds.

The cache is never believed by itself. A session that has begun reads the sets under gc/, then lists
`slices/`, then `packs/`; a slice counts if its pack is listed, is long enough, and is named by no set. So a
collection elsewhere either put its set before this session read them, or sees this session and keeps what it
will name (docs/FORMAT.md, "Prune"); and what was lost in another way is stored again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator

from backupd.repository.cache import Cache
from backupd.repository.gc.absent import Absent
from backupd.repository.lists import learn
from backupd.repository.slices import Slice
from backupd.storage.base import Storage

_TABLES = (
    "CREATE TABLE listed (pack TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE own (number INTEGER PRIMARY KEY, id BLOB UNIQUE, pack TEXT, offset INTEGER, length)",
)
_REMEMBERED = 4096


class Known:
    """The knowledge of one session that has begun; any thread may use it."""

    def __init__(self, storage: Storage, cache: Cache, absent: Absent) -> None:
        self._storage = storage
        self._cache = cache
        self._losses = cache.losses
        self._absent = absent
        self._lock = threading.Lock()
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            self._database.execute(f"PRAGMA {pragma}")
        for table in _TABLES:
            self._database.execute(table)
        self._sizes: dict[str, int] = {}

    @classmethod
    def learned(cls, storage: Storage, cache: Cache, absent: Absent) -> Known:
        """What there is; `absent` was loaded after the session had begun."""
        known = cls(storage, cache, absent)
        try:
            learn(storage, cache)
            known._list()
        except BaseException:
            known.close()
            raise
        return known

    def close(self) -> None:
        """Forget it all."""
        self._database.close()

    def find(self, chunk: str) -> Slice | None:
        """Where this chunk lies, if that is known: in the storage, or in a pack that this session fills."""
        for found in self._cache.slices(chunk):
            if found.end <= self._size(found.pack):
                return found
        return self.find_own(chunk)

    def find_own(self, chunk: str) -> Slice | None:
        """Where this session has put this chunk, if it has and its slice list is not stored yet."""
        query = "SELECT pack, offset, length FROM own WHERE id = ?"
        with self._lock:
            row = self._database.execute(query, (bytes.fromhex(chunk),)).fetchone()
        return Slice(row[0], row[1], row[2], chunk) if row else None

    def add_own(self, new: Slice) -> None:
        """Know a chunk that is in a pack of this session's, stored or not."""
        row = (bytes.fromhex(new.chunk), new.pack, new.offset, new.length)
        with self._lock:
            self._database.execute("INSERT INTO own (id, pack, offset, length) VALUES (?, ?, ?, ?)", row)

    def own(self) -> Iterator[Slice]:
        """All that `add_own` was told since `publish`, in that order."""
        query = "SELECT number, pack, offset, length, id FROM own WHERE number > ? ORDER BY number LIMIT ?"
        last = 0
        while True:
            with self._lock:
                rows = self._database.execute(query, (last, _REMEMBERED)).fetchall()
            for _, pack, offset, length, chunk in rows:
                yield Slice(pack, offset, length, chunk.hex())
            if not rows:
                return
            last = rows[-1][0]

    def publish(self, key: str) -> None:
        """Move what is this session's own to the cache: a slice list of that key says it, durably."""
        self._cache.add_list(key, self.own)
        if self._cache.losses != self._losses:
            self._losses = self._cache.losses
            learn(self._storage, self._cache)
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO listed SELECT pack, max(offset + length) FROM own GROUP BY pack"
            )
            self._database.execute("DELETE FROM own")
            self._sizes.clear()

    def _list(self) -> None:
        listed = (each for each in self._storage.list("packs/") if each.key not in self._absent)
        rows = ((each.key, each.size_bytes) for each in listed)
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR REPLACE INTO listed VALUES (?, ?)", rows)
        self._database.execute("COMMIT")

    def _size(self, pack: str) -> int:
        """How much there is of a pack to be named."""
        size = self._sizes.get(pack)
        if size is None:
            with self._lock:
                row = self._database.execute("SELECT size FROM listed WHERE pack = ?", (pack,)).fetchone()
                if len(self._sizes) >= _REMEMBERED:
                    self._sizes.clear()
                size = self._sizes[pack] = int(row[0]) if row else 0
        return size
