"""Which chunks there are and which are named: tables on disk, so that a million take no more memory."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from backupd.storage.base import ObjectInfo

_CACHE_KIB = 32 * 1024
_PAGE = 1000
_TABLES = (
    "CREATE TABLE listed (key TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE named (key TEXT PRIMARY KEY, read_at INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
    "CREATE TABLE problem (key TEXT PRIMARY KEY, text TEXT NOT NULL, mended INTEGER NOT NULL) WITHOUT ROWID",
)


class Inventory:
    """The chunks that a storage lists, those that snapshots name, and what is wrong with them.

    Any thread may use it. It lives in a temporary file of SQLite's, which grows beyond memory and is gone
    with it.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._lock = threading.Lock()
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            self._database.execute(f"PRAGMA {pragma}")
        for table in _TABLES:
            self._database.execute(table)

    def __enter__(self) -> Inventory:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def list(self, infos: Iterable[ObjectInfo]) -> None:
        """Note chunks that the storage lists."""
        self._fill("INSERT OR REPLACE INTO listed VALUES (?, ?)", ((i.key, i.size_bytes) for i in infos))

    def name(self, keys: Iterable[str]) -> int:
        """Note the chunks that a snapshot names; how many there were."""
        return self._fill("INSERT OR IGNORE INTO named (key) VALUES (?)", ((key,) for key in keys))

    def read(self, times: Iterable[tuple[str, int]]) -> None:
        """Note when chunks were read last; those that nobody names are left out."""
        self._fill("UPDATE named SET read_at = ?2 WHERE key = ?1", times)

    def blame(self, key: str, text: str, *, mended: bool) -> None:
        """Note what is wrong with a chunk; `mended` where another key has its content."""
        self._fill("INSERT OR REPLACE INTO problem VALUES (?, ?, ?)", ((key, text, mended),))

    def problem(self, key: str) -> str | None:
        """What is wrong with a chunk whose content no other key has."""
        query = "SELECT text FROM problem WHERE key = ? AND NOT mended"
        return next((str(text) for (text,) in self._rows(query, key)), None)

    def problems(self) -> Iterator[str]:
        """The chunks with which something is wrong, mended or not, in order."""
        return self._keys("SELECT key FROM problem ORDER BY key")

    def count_unmended(self) -> int:
        """How many chunks nobody can read."""
        return self._number("SELECT count(*) FROM problem WHERE NOT mended")

    def count_named(self) -> int:
        """How many different chunks are named."""
        return self._number("SELECT count(*) FROM named")

    def unlisted(self) -> Iterator[str]:
        """The chunks that are named and not listed."""
        return self._keys("SELECT key FROM named WHERE key NOT IN (SELECT key FROM listed)")

    def odd_sizes(self, smallest: int, largest: int) -> Iterator[str]:
        """The chunks that are named and listed with a size outside these bounds."""
        query = "SELECT key FROM named JOIN listed USING (key) WHERE size NOT BETWEEN ? AND ?"
        return self._keys(query, smallest, largest)

    def names(self, key: str) -> bool:
        """Whether a snapshot names the chunk."""
        return bool(self._number("SELECT EXISTS (SELECT 1 FROM named WHERE key = ?)", key))

    def size_bytes(self) -> int:
        """How much the chunks take that are named and listed."""
        return self._number("SELECT coalesce(sum(size), 0) FROM named JOIN listed USING (key)")

    def oldest_read(self, limit_bytes: float) -> Iterator[tuple[str, int]]:
        """The named chunks of which nothing bad is known, and their sizes, until these come to the limit.

        First those that were never read, in no order, then by the time of their last reading.
        """
        query = """SELECT key, coalesce(size, 0) FROM named LEFT JOIN listed USING (key)
                   WHERE key NOT IN (SELECT key FROM problem) ORDER BY read_at, random()"""
        taken = 0
        for key, size in self._rows(query):
            if taken >= limit_bytes:
                return
            taken += size
            yield key, size

    def _fill(self, statement: str, rows: Iterable[tuple[object, ...]]) -> int:
        left, count = iter(rows), 0
        while page := list(islice(left, _PAGE)):
            with self._lock:
                self._database.execute("BEGIN")
                self._database.executemany(statement, page)
                self._database.execute("COMMIT")
            count += len(page)
        return count

    def _rows(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        with self._lock:
            cursor = self._database.execute(query, values)
            rows = cursor.fetchmany(_PAGE)
        while rows:
            yield from rows
            with self._lock:
                rows = cursor.fetchmany(_PAGE)

    def _keys(self, query: str, *values: object) -> Iterator[str]:
        return (key for (key,) in self._rows(query, *values))

    def _number(self, query: str, *values: object) -> int:
        with self._lock:
            (number,) = self._database.execute(query, values).fetchone()
        return int(number)
