"""Which packs there are, and what is named in them: tables on disk, so that a million take no more memory."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from backupd.repository.slices import Slice, is_pack
from backupd.storage.base import ObjectInfo

_CACHE_KIB = 32 * 1024
_PAGE = 1000
_TABLES = (
    "CREATE TABLE pack (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, size INTEGER,"
    " read_at INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE slice (pack INTEGER, offset INTEGER, length INTEGER, chunk BLOB,"
    " PRIMARY KEY (pack, offset, length, chunk)) WITHOUT ROWID",
    "CREATE TABLE problem (pack INTEGER, offset INTEGER, length INTEGER, chunk BLOB, text TEXT NOT NULL,"
    " mended INTEGER NOT NULL, PRIMARY KEY (pack, offset, length, chunk)) WITHOUT ROWID",
    "CREATE VIEW named AS SELECT * FROM pack WHERE EXISTS (SELECT 1 FROM slice WHERE slice.pack = number)",
)
_PACK = "INSERT OR IGNORE INTO pack (key) VALUES (?)"
_SLICE = "INSERT OR IGNORE INTO slice SELECT number, ?2, ?3, ?4 FROM pack WHERE key = ?1"
_PROBLEM = "INSERT OR REPLACE INTO problem SELECT number, ?2, ?3, ?4, ?5, ?6 FROM pack WHERE key = ?1"
_TEXT = """SELECT text FROM problem WHERE pack = (SELECT number FROM pack WHERE key = ?1)
           AND offset = ?2 AND length = ?3 AND chunk = ?4 AND NOT mended"""


@dataclass(frozen=True)
class Blame:
    """A slice with which something is wrong; `mended` where another pack has its content."""

    found: Slice
    problem: str
    mended: bool = False


class Inventory:
    """The packs that a storage lists, the slices that snapshots name, and what is wrong with them.

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
        """Note packs that the storage lists."""
        statement = "INSERT OR REPLACE INTO pack (key, size) VALUES (?, ?)"
        self._fill(statement, ((info.key, info.size_bytes) for info in infos if is_pack(info.key)))

    def name(self, slices: Iterable[Slice]) -> int:
        """Note what a snapshot names; how many slices there were."""
        left, count = iter(slices), 0
        while page := list(islice(left, _PAGE)):
            self._fill(_PACK, ((pack,) for pack in {each.pack for each in page}))
            self._fill(_SLICE, (_values(each) for each in page))
            count += len(page)
        return count

    def read(self, times: Iterable[tuple[str, int]]) -> None:
        """Note when packs were read last; those that nobody knows are left out."""
        self._fill("UPDATE pack SET read_at = ?2 WHERE key = ?1", times)

    def blame(self, blames: Collection[Blame]) -> None:
        """Note what is wrong with slices."""
        self._fill(_PACK, ((pack,) for pack in {each.found.pack for each in blames}))
        self._fill(_PROBLEM, ((*_values(each.found), each.problem, each.mended) for each in blames))

    def problem(self, found: Slice) -> str | None:
        """What is wrong with a slice whose content no other pack has."""
        return next((str(text) for (text,) in self._rows(_TEXT, *_values(found))), None)

    def damaged(self) -> Iterator[str]:
        """The packs with which something is wrong, mended or not, in order."""
        return self._keys("SELECT key FROM pack WHERE number IN (SELECT pack FROM problem) ORDER BY key")

    def unmended(self) -> set[str]:
        """The packs in which there is something that nobody can read."""
        query = "SELECT key FROM pack WHERE number IN (SELECT pack FROM problem WHERE NOT mended)"
        return set(self._keys(query))

    def count_packs(self) -> int:
        """How many packs are named."""
        return self._number("SELECT count(*) FROM named")

    def count_chunks(self) -> int:
        """How many different slices are named."""
        return self._number("SELECT count(*) FROM slice")

    def unlisted(self) -> Iterator[str]:
        """The packs that are named and not listed."""
        return self._keys("SELECT key FROM named WHERE size IS NULL")

    def short(self) -> Iterator[str]:
        """The packs that are listed with a size too small for what is named in them."""
        return self._keys(
            """SELECT key FROM (SELECT pack, max(offset + length) AS ending FROM slice GROUP BY pack)
               JOIN pack ON number = pack WHERE size < ending"""
        )

    def names(self, pack: str) -> bool:
        """Whether a snapshot names anything in the pack."""
        return bool(self._number("SELECT EXISTS (SELECT 1 FROM named WHERE key = ?)", pack))

    def slices(self, pack: str) -> tuple[Slice, ...]:
        """What is named in a pack, in its order."""
        query = """SELECT offset, length, chunk FROM slice JOIN pack ON number = pack WHERE key = ?
                   ORDER BY offset"""
        return tuple(
            Slice(pack, at, length, bytes(chunk).hex()) for at, length, chunk in self._rows(query, pack)
        )

    def lists(self, pack: str) -> bool:
        """Whether the storage lists the pack."""
        return bool(self._number("SELECT count(size) FROM pack WHERE key = ?", pack))

    def size_bytes(self) -> int:
        """How much the packs take that are named and listed."""
        return self._number("SELECT coalesce(sum(size), 0) FROM named")

    def oldest_read(self, limit_bytes: float) -> Iterator[tuple[str, int]]:
        """The named packs of which nothing bad is known, and their sizes, until these come to the limit.

        First those that were never read, in no order, then by the time of their last reading.
        """
        query = """SELECT key, coalesce(size, 0) FROM named
                   WHERE number NOT IN (SELECT pack FROM problem) ORDER BY read_at, random()"""
        taken = 0
        for key, size in self._rows(query):
            if taken >= limit_bytes:
                return
            taken += size
            yield key, size

    def _fill(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        left = iter(rows)
        while page := list(islice(left, _PAGE)):
            with self._lock:
                self._database.execute("BEGIN")
                self._database.executemany(statement, page)
                self._database.execute("COMMIT")

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


def _values(found: Slice) -> tuple[object, ...]:
    return found.pack, found.offset, found.length, bytes.fromhex(found.chunk)
