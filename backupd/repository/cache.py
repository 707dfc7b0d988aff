"""What this machine remembers of a repository: never the truth, always rebuildable."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar
from zlib import crc32

from backupd.repository.slices import Slice, owner_of

T = TypeVar("T")

_VERSION = 2
_BATCH = 10_000
_BUSY_SECONDS = 30.0
_TABLES = (
    "CREATE TABLE IF NOT EXISTS list (key TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS pack (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE)",
    """CREATE TABLE IF NOT EXISTS slice (
        id BLOB, pack INTEGER, offset INTEGER NOT NULL, length INTEGER NOT NULL, checksum INTEGER NOT NULL,
        PRIMARY KEY (id, pack)
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS manifest (key TEXT PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS read (key TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID",
)

_SLICES = "SELECT key, offset, length, checksum FROM slice JOIN pack ON number = pack WHERE id = ?"


class Cache:
    """What slice lists say, manifests, and when packs were last read. Any thread may use it.

    Never raises of itself, and processes share the file. One that is damaged is made anew; one that is locked
    or cannot be written is done without, for as long as this object lives. Either way nothing of before is
    known then: ignorance costs questions to the storage, or a chunk that is stored twice, and never more.
    """

    def __init__(self, path: Path | None = None, note: Callable[[str], object] = lambda text: None) -> None:
        """Use the file at `path`; without one, remember no longer than this object lives."""
        self._path = path
        self._note = note
        self._lock = threading.Lock()
        self.losses = 0
        """How often all that was known has been lost, since the file failed."""
        self._connection = self._open()

    def __del__(self) -> None:
        # sqlite3 complains of connections that nobody closed; of this one nothing is lost.
        self._connection.close()

    @property
    def lasts(self) -> bool:
        """Whether what is remembered outlives this process."""
        return self._path is not None

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def lists(self) -> set[str]:
        """The keys of the slice lists that were added."""
        rows = self._do(lambda connection: connection.execute("SELECT key FROM list").fetchall())
        return {key for (key,) in rows}

    def add_list(self, key: str, slices: Callable[[], Iterable[Slice]]) -> None:
        """Know what a slice list says; it is gone through twice, and what it raises leaves nothing of it."""
        for _ in slices():
            pass
        left = iter(slices())
        while batch := list(islice(left, _BATCH)):
            self._write(partial(_add_slices, batch))
        self._insert("INSERT OR IGNORE INTO list VALUES (?)", [(key,)])

    def forget_lists(self, keys: Collection[str]) -> None:
        """Know nothing any more of the writers whose slice lists these were: all of theirs is gone."""
        owners = {owner_of(key) for key in keys}

        def work(connection: sqlite3.Connection) -> None:
            for owner in owners:
                for table, folder in (("list", "slices"), ("pack", "packs")):
                    # The two bounds hold all keys that begin so: a zero comes after a slash.
                    bounds = (f"{folder}/{owner}/", f"{folder}/{owner}0")
                    connection.execute(f"DELETE FROM {table} WHERE key > ? AND key < ?", bounds)  # noqa: S608
            connection.execute("DELETE FROM slice WHERE pack NOT IN (SELECT number FROM pack)")

        self._write(work)

    def slices(self, chunk: str) -> list[Slice]:
        """Where slice lists say that a chunk lies: it may be gone from there."""
        rows = self._do(lambda connection: connection.execute(_SLICES, (bytes.fromhex(chunk),)).fetchall())
        found = [(Slice(pack, offset, length, chunk), checksum) for pack, offset, length, checksum in rows]
        # A page that lost a bit must not make a snapshot name the wrong bytes; SQLite does not notice.
        return [each for each, checksum in found if checksum == _checksum(each)]

    def manifests(self, prefix: str) -> dict[str, bytes]:
        """The manifests that were read before, by their keys, which begin with the prefix."""
        query = "SELECT key, data FROM manifest WHERE key >= ?1 AND substr(key, 1, length(?1)) = ?1"
        return dict(self._do(lambda connection: connection.execute(query, (prefix,)).fetchall()))

    def manifest_keys(self) -> set[str]:
        """The keys of the manifests that were read before."""
        rows = self._do(lambda connection: connection.execute("SELECT key FROM manifest").fetchall())
        return {key for (key,) in rows}

    def keep_manifests(self, manifests: Iterable[tuple[str, bytes]]) -> None:
        """Remember manifests that were read and found valid."""
        self._insert("INSERT OR IGNORE INTO manifest VALUES (?, ?)", manifests)

    def forget_manifests(self, keys: Collection[str]) -> None:
        """Forget manifests that are no more."""
        if keys:
            statement = "DELETE FROM manifest WHERE key = ?"
            self._write(lambda connection: connection.executemany(statement, ((key,) for key in keys)))

    def note_read(self, keys: Iterable[str], at: datetime) -> None:
        """Remember that these packs were read as a whole."""
        seconds = int(at.timestamp())
        self._insert("INSERT OR REPLACE INTO read VALUES (?, ?)", ((key, seconds) for key in keys))

    def reads(self) -> Iterator[tuple[str, int]]:
        """The packs that were read, and when last, in seconds since 1970; in the order of the keys."""
        after = ""
        while rows := self._do(partial(_page, after)):
            yield from rows
            after = rows[-1][0]

    def _insert(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Short transactions: other processes wait for them."""
        left = iter(rows)
        while batch := list(islice(left, _BATCH)):
            self._write(partial(_insert, statement, batch))

    def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        def transaction(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            try:
                work(connection)
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

        self._do(transaction)

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` makes of the file; where the file fails, of an empty one in its place."""
        with self._lock:
            try:
                return work(self._connection)
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.close()
                self._connection = self._replacement(error)
                return work(self._connection)

    def _open(self) -> sqlite3.Connection:
        if self._path is None:
            return _connected("")  # SQLite's own temporary file: removed when it is closed
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            return _connected(str(self._path))
        except (sqlite3.Error, OSError) as error:
            return self._replacement(error)

    def _replacement(self, error: Exception) -> sqlite3.Connection:
        self.losses += 1
        path, self._path = self._path, None
        if path is not None and _is_damage(error):
            self._note(f"cache {path} is made anew: {error}")
            with contextlib.suppress(sqlite3.Error, OSError):
                for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                    name.unlink(missing_ok=True)
                path.touch(mode=0o600)
                connection = _connected(str(path))
                self._path = path
                return connection
        self._note(f"cache {path} is done without: {error}")
        return _connected("")


def _connected(path: str) -> sqlite3.Connection:
    """A connection in which no transaction begins by itself."""
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"its version is {version}, not {_VERSION}")
        for statement in _TABLES:
            connection.execute(statement)
        if not version:
            connection.execute(f"PRAGMA user_version = {_VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


class _Packs:
    """The numbers of packs, which are given out as they are asked for, in one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._last = ("", 0)

    def number(self, key: str) -> int:
        """The number that stands for a pack."""
        if key != self._last[0]:
            self._connection.execute("INSERT OR IGNORE INTO pack (key) VALUES (?)", (key,))
            query = "SELECT number FROM pack WHERE key = ?"
            self._last = (key, int(self._connection.execute(query, (key,)).fetchone()[0]))
        return self._last[1]


def _checksum(of: Slice) -> int:
    return crc32(of.line())


def _add_slices(slices: list[Slice], connection: sqlite3.Connection) -> None:
    packs = _Packs(connection)
    rows = ((bytes.fromhex(s.chunk), packs.number(s.pack), s.offset, s.length, _checksum(s)) for s in slices)
    connection.executemany("INSERT OR REPLACE INTO slice VALUES (?, ?, ?, ?, ?)", rows)


def _page(after: str, connection: sqlite3.Connection) -> list[tuple[str, int]]:
    query = "SELECT key, at FROM read WHERE key > ? ORDER BY key LIMIT ?"
    return connection.execute(query, (after, _BATCH)).fetchall()


def _insert(statement: str, rows: list[tuple[object, ...]], connection: sqlite3.Connection) -> None:
    connection.executemany(statement, rows)


def _is_damage(error: Exception) -> bool:
    """Whether the file is broken, not merely out of reach."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
