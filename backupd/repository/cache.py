"""What this machine remembers of a repository: never the truth, always rebuildable."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

TRUSTED_FOR = timedelta(days=80)
"""Collectors leave their sets for 90 days: who has not looked for nearly that long may have missed one."""

_VERSION = 1
_BATCH = 10_000
_BUSY_SECONDS = 5.0
_TABLES = (
    "CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS stored (key TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS manifest (key TEXT PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS read (key TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TEMP TABLE learned (key TEXT PRIMARY KEY) WITHOUT ROWID",
)


class Cache:
    """Chunks known to be stored, manifests, and when chunks were last read. Any thread may use it.

    Never raises, and processes share the file. One that is damaged is made anew; one that is locked or cannot
    be written is done without, for as long as this object lives. Either way nothing of before is known then:
    ignorance costs a question to the storage, and never more.
    """

    def __init__(self, path: Path | None = None, note: Callable[[str], object] = lambda text: None) -> None:
        """Use the file at `path`; without one, remember no longer than this object lives."""
        self._path = path
        self._note = note
        self._lock = threading.Lock()
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

    def sync(self, absent: Iterable[str], now: datetime | None) -> None:
        """Forget the keys that count as absent; all, where the last time was too long before `now`.

        To be called in each session before `knows`, with the storage's own time; all is forgotten where that
        is not known.
        """

        def work(connection: sqlite3.Connection) -> None:
            (before,) = connection.execute("SELECT max(value) FROM fact WHERE name = 'synced'").fetchone()
            if not _is_recent(before, now):
                connection.execute("DELETE FROM stored")
                connection.execute("DELETE FROM fact")
            connection.executemany("DELETE FROM stored WHERE key = ?", ((key,) for key in absent))
            connection.executemany("DELETE FROM read WHERE key = ?", ((key,) for key in absent))
            connection.execute("DELETE FROM learned")
            if now is not None:
                connection.execute("INSERT OR REPLACE INTO fact VALUES ('synced', ?)", (now.timestamp(),))

        self._write(work)

    def knows(self, key: str) -> bool:
        """Whether the storage is known to have this chunk."""
        query = "SELECT ?1 IN (SELECT key FROM stored) OR ?1 IN (SELECT key FROM learned)"
        return bool(self._do(lambda connection: connection.execute(query, (key,)).fetchone()[0]))

    def learn(self, key: str) -> None:
        """Know a chunk that may not be durable yet, until `confirm` or the next `sync`."""
        self._do(lambda connection: connection.execute("INSERT OR IGNORE INTO learned VALUES (?)", (key,)))

    def confirm(self) -> None:
        """Keep what was learned: a manifest that names it is durable."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR IGNORE INTO stored SELECT key FROM learned")
            connection.execute("DELETE FROM learned")

        self._write(work)

    def add(self, keys: Iterable[str]) -> None:
        """Know these chunks, which are durable."""
        self._insert("INSERT OR IGNORE INTO stored VALUES (?)", ((key,) for key in keys))

    def has(self, fact: str, value: str) -> bool:
        """Whether this is what `establish` was last called with for that fact."""
        query = "SELECT EXISTS (SELECT 1 FROM fact WHERE name = ? AND value = ?)"
        return bool(self._do(lambda connection: connection.execute(query, (fact, value)).fetchone()[0]))

    def establish(self, fact: str, value: str) -> None:
        """Note a fact about what is known, such as of which snapshot the chunks were added."""
        statement = "INSERT OR REPLACE INTO fact VALUES (?, ?)"
        self._write(lambda connection: connection.execute(statement, (fact, value)))

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
        """Remember that these chunks were read as a whole."""
        seconds = int(at.timestamp())
        self._insert("INSERT OR REPLACE INTO read VALUES (?, ?)", ((key, seconds) for key in keys))

    def reads(self) -> Iterator[tuple[str, int]]:
        """The chunks that were read, and when last, in seconds since 1970; in the order of the keys."""
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


def _is_recent(before: float | None, now: datetime | None) -> bool:
    if before is None or now is None:
        return False
    return abs(now.timestamp() - before) <= TRUSTED_FOR.total_seconds()


def _page(after: str, connection: sqlite3.Connection) -> list[tuple[str, int]]:
    query = "SELECT key, at FROM read WHERE key > ? ORDER BY key LIMIT ?"
    return connection.execute(query, (after, _BATCH)).fetchall()


def _insert(statement: str, rows: list[tuple[object, ...]], connection: sqlite3.Connection) -> None:
    connection.executemany(statement, rows)


def _is_damage(error: Exception) -> bool:
    """Whether the file is broken, not merely out of reach."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
