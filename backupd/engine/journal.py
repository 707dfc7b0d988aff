"""The durable record of what backupd has changed in the user's system.

Every process keeps a file of its own in the journal's directory and holds a lock on it while it lives: a
file that nobody holds tells what a dead process has left behind. A line is a change, or the end of one.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import uuid
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from backupd.errors import BackupdError

PROCESS = uuid.uuid4().hex
"""This process: its journal files are named after it, its helpers are labelled with it."""

_MADE, _UNDONE = "+", "-"


@dataclass(frozen=True)
class Change:
    """A container of an engine (by its id) to which something was done that must be undone."""

    engine: str
    container: str
    name: str
    action: str = "pause"


class Journal:
    """What this process has changed, and what dead ones have; several processes may share the directory.

    Any thread may use it. `lock` guards `holds`, which counts who in this process needs a change to last.
    """

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        self.holds: Counter[Change] = Counter()
        self._changes: list[Change] = []
        with _writing(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory = path
            self._path = path / f"{PROCESS}-{uuid.uuid4().hex[:8]}.jsonl"
            self._descriptor = _locked_file(self._path)
        self._close = weakref.finalize(self, os.close, self._descriptor)

    @property
    def changes(self) -> tuple[Change, ...]:
        """What this process has changed and not undone."""
        with self.lock:
            return tuple(self._changes)

    def record(self, change: Change) -> None:
        """Keep the change; durable on return, so call it before the change is made."""
        with self.lock, _writing(self._path):
            self._append(_MADE, change)
            self._changes.append(change)

    def erase(self, change: Change) -> None:
        """Forget the change; call it after it has been undone."""
        with self.lock, _writing(self._path):
            self._changes.remove(change)
            if self._changes:
                self._append(_UNDONE, change)
            else:
                os.ftruncate(self._descriptor, 0)
                os.fsync(self._descriptor)

    def adopt(self) -> None:
        """Take over what dead processes have left behind, and remove their files."""
        for path in self._others():
            with _claimed(path) as claimed:
                if not claimed:
                    continue
                for change in _read(path):
                    self.record(change)
                path.unlink()

    def held_elsewhere(self, change: Change) -> bool:
        """Whether another living process has made that change and not undone it."""
        for path in self._others():
            with _claimed(path) as claimed:
                if not claimed and change in _read(path):
                    return True
        return False

    def lives(self, process: str) -> bool:
        """Whether the process of that name, as in `PROCESS`, still runs and uses this directory."""
        if process == PROCESS:
            return True
        for path in self._directory.glob(f"{process}-*.jsonl"):
            with _claimed(path) as claimed:
                if not claimed:
                    return True
        return False

    def close(self) -> None:
        """End the use of the journal; what is not undone stays for the next process."""
        with self.lock:
            if self._close.alive and not self._changes:
                self._path.unlink(missing_ok=True)
            self._close()

    def _append(self, mark: str, change: Change) -> None:
        line = json.dumps({mark: asdict(change)}) + "\n"
        os.write(self._descriptor, line.encode())
        os.fsync(self._descriptor)

    def _others(self) -> Iterator[Path]:
        return (path for path in sorted(self._directory.glob("*.jsonl")) if path != self._path)


def _locked_file(path: Path) -> int:
    """A new file under a lock; named when it is locked, so that nobody takes it for abandoned."""
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    new.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return descriptor


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Whether the file's owner is dead; then the file is ours as long as the context."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        yield False
        return
    try:
        yield _lock(descriptor) and path.exists()
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> list[Change]:
    """The changes that are not undone. A torn last line was never followed by its change."""
    changes: list[Change] = []
    with suppress(FileNotFoundError, PermissionError):
        for line in path.read_text().splitlines():
            with suppress(ValueError, TypeError):
                [(mark, fields)] = json.loads(line).items()
                if mark == _MADE:
                    changes.append(Change(**fields))
                else:
                    changes.remove(Change(**fields))
    return changes


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupdError(
            f"cannot write the journal {path}: {(error.strerror or str(error)).lower()}",
            hint="without it a crash would leave containers paused: make the state directory writable",
        ) from error
