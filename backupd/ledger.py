"""The durable memory of runs: what became of every volume's last ones, and what people were told."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from backupd.record import Record, decode
from backupd.runs import Run
from backupd.snapshot import Manifest

log = structlog.get_logger(__name__)

_BUSY_SECONDS = 30.0
_TABLES = (
    "CREATE TABLE IF NOT EXISTS volume (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS told (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID",
)


class Ledger:
    """Records by volume, in `ledger.db` of the state directory. Any thread may use it, and any process.

    Never raises: a backup must not fail because it cannot be written down. While the file cannot be used,
    `trouble` says why and what is noted lasts as long as this object; a damaged file is put aside and made
    anew from what is known. The repository knows the successes that a lost ledger does not: `reconcile`.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "ledger.db"
        self._lock = threading.Lock()
        self._known: dict[str, Record] = {}
        self._told: dict[str, str] = {}
        self.trouble: str | None = None

    def last_success(self, volume: str) -> datetime | None:
        """When the newest snapshot of a volume was begun; None where none is known."""
        success = self.record(volume).success
        return success.started if success else None

    def record(self, volume: str) -> Record:
        """What is known of one volume."""
        with self._lock:
            rows = self._read("SELECT name, record FROM volume WHERE name = ?", (volume,))
            if rows and (found := _decoded(rows[0][1])):
                self._known[volume] = found
            return self._known.get(volume) or Record(volume)

    def records(self) -> Mapping[str, Record]:
        """What is known of every volume."""
        with self._lock:
            rows = self._read("SELECT name, record FROM volume")
            if rows is not None:
                self._known = {name: found for name, text in rows if (found := _decoded(text))}
            return dict(self._known)

    def started(self, run: Run) -> None:
        """Write down that a run has begun."""
        self._change({run.volume: partial(Record.begun, run=run)})

    def ended(self, run: Run) -> None:
        """Write down how a run has ended."""
        self._change({run.volume: partial(Record.ended, run=run)})

    def seen(self, volumes: Iterable[str], now: datetime) -> None:
        """These volumes are protected, from now on if not since earlier."""
        known = self.records()
        new = [volume for volume in volumes if volume not in known or known[volume].first_seen is None]
        self._change(dict.fromkeys(new, partial(Record.seen, now=now)))

    def reconcile(self, newest: Mapping[str, Manifest], asked: datetime) -> None:
        """Believe the repository, which was asked at `asked` for the newest snapshot of each volume.

        A success that it does not have is none: the storage may be another one now.
        """
        known = self.records()
        changes = {}
        for volume in {*newest, *known}:
            manifest = newest.get(volume)
            success = known[volume].success if volume in known else None
            agreed = (success and success.snapshot) == (manifest and manifest.snapshot)
            if not agreed and not (success and success.started >= asked):
                changes[volume] = partial(Record.believed, newest=manifest)
        self._change(changes)

    def verified(self, volumes: Iterable[str], at: datetime) -> None:
        """Snapshots of these volumes were proved whole."""
        self._change(dict.fromkeys(volumes, partial(Record.proved, at=at)))

    def told(self) -> Mapping[str, str]:
        """What people were told and has not ended: by name, in the words of who keeps it."""
        with self._lock:
            rows = self._read("SELECT name, state FROM told")
            if rows is not None:
                self._told = dict(rows)
            return dict(self._told)

    def keep_told(self, told: Mapping[str, str]) -> None:
        """Remember exactly this of what people were told."""

        def work(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM told")
            database.executemany("INSERT INTO told VALUES (?, ?)", told.items())

        with self._lock:
            self._told = dict(told)
            self._write(work)

    def _change(self, events: Mapping[str, Callable[[Record], Record]]) -> None:
        """Write down, durably and at once, what events make of the records of volumes."""
        changed: dict[str, Record] = {}

        def work(database: sqlite3.Connection) -> None:
            for volume, event in events.items():
                row = database.execute("SELECT record FROM volume WHERE name = ?", (volume,)).fetchone()
                changed[volume] = event((row and _decoded(row[0])) or Record(volume))
                database.execute(
                    "INSERT OR REPLACE INTO volume VALUES (?, ?)", (volume, changed[volume].encode())
                )

        if not events:
            return
        with self._lock:
            if not self._write(work):
                known = self._known
                changed = {name: event(known.get(name) or Record(name)) for name, event in events.items()}
            self._known.update(changed)

    def _read(self, query: str, values: tuple[str, ...] = ()) -> list[tuple[str, str]] | None:
        """The rows; None where there is no file and what is known must do."""
        found: list[tuple[str, str]] = []

        def work() -> None:
            with self._opened() as database:
                found.extend(database.execute(query, values))

        return found if self._path.exists() and self._attempt(work) else None

    def _write(self, work: Callable[[sqlite3.Connection], None]) -> bool:
        """Whether what `work` changes is durable."""

        def transaction() -> None:
            with self._opened() as database:
                database.execute("BEGIN IMMEDIATE")
                work(database)
                database.execute("COMMIT")

        return self._attempt(transaction)

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Whether it worked; `trouble` says why not, and a damaged file has been replaced before."""
        try:
            try:
                work()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                log.warning("ledger is damaged and made anew", path=str(self._path), error=str(error))
                # Kept for whoever wants to know.
                self._path.replace(self._path.with_name("ledger.damaged"))
                self._path.with_name("ledger.db-journal").unlink(missing_ok=True)
                work()
        except (sqlite3.Error, OSError) as error:
            if not self.trouble:
                log.error("ledger cannot be used", path=str(self._path), error=str(error))
            self.trouble = f"the ledger {self._path} cannot be used: {error}"
            return False
        if self.trouble:
            log.info("ledger can be used again", path=str(self._path))
            self.trouble = None
        return True

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The file, anew each time: that it was removed is noticed, and what is known is written again."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = FULL")
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'told'").fetchone():
                self._fill(database)
            yield database

    def _fill(self, database: sqlite3.Connection) -> None:
        # Locked from the first statement on: an upgrade of a lock does not wait for others, it fails.
        database.execute("BEGIN IMMEDIATE")
        for statement in _TABLES:
            database.execute(statement)
        rows = [(name, record.encode()) for name, record in self._known.items()]
        database.executemany("INSERT OR IGNORE INTO volume VALUES (?, ?)", rows)
        database.executemany("INSERT OR IGNORE INTO told VALUES (?, ?)", self._told.items())
        database.execute("COMMIT")


def _decoded(text: str) -> Record | None:
    with suppress(ValueError, TypeError, KeyError):
        return decode(text)
    return None


def _is_damage(error: Exception) -> bool:
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.OperationalError | sqlite3.ProgrammingError
    )
