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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from backupd.errors import BackupdError
from backupd.treatment import Hook

PROCESS = uuid.uuid4().hex
"""This process: its journal files are named after it, its helpers are labelled with it."""

_MADE, _UNDONE = "+", "-"


@dataclass(frozen=True)
class Change:
    """A container of an engine (by its id) to which something is done that must be undone.

    `claim` is nothing done yet: the container belongs to the run. `compose` are its project, service and
    number, by which its successor is found; `started` is when the container had been started last, in the
    engine's words, `stop_seconds` how long it may take to stop, `at` when that was written, as time.time
    has it. `token`, `post`, `image` and `instance` are for hooks: what is killed and run, by whose helper.
    """

    engine: str
    container: str
    name: str
    action: Literal["claim", "pause", "stop", "hook"] = "pause"
    run: str = ""
    compose: tuple[str, ...] = ()
    started: str = ""
    stop_seconds: int = 0
    at: float = 0.0
    token: str = ""
    post: tuple[Hook, ...] = ()
    image: str = ""
    instance: str = ""

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Change:
        """The change that JSON values describe; TypeError or KeyError where they do not."""
        post = tuple(Hook(**{**hook, "command": tuple(hook["command"])}) for hook in fields.get("post", ()))
        return cls(**{**fields, "compose": tuple(fields.get("compose", ())), "post": post})


class Journal:
    """What this process has changed, and what dead ones have; several processes may share the directory.

    Any thread may use it. `runs` are the runs of this process that undo their changes themselves; `recovery`
    is held by who undoes those of others.
    """

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        self.recovery = threading.RLock()
        self.runs: set[str] = set()
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

    def record(self, *changes: Change) -> None:
        """Keep the changes; durable on return, so call it before they are made."""
        with self.lock, _writing(self._path):
            self._append(_MADE, changes)
            self._changes += changes

    def erase(self, *changes: Change) -> None:
        """Forget the changes; call it after they have been undone."""
        with self.lock, _writing(self._path):
            known = [change for change in changes if change in self._changes]
            self._changes = [change for change in self._changes if change not in known]
            if self._changes:
                self._append(_UNDONE, known)
            else:
                os.ftruncate(self._descriptor, 0)
                os.fsync(self._descriptor)

    def claim(self, *claims: Change) -> Change | None:
        """Record all the claims; or none where another run has one of the containers: what it has recorded.

        That may be a run of another living process.
        """
        wanted = {(claim.engine, claim.container): claim.run for claim in claims}
        with self.lock, self._alone():
            for change in (*self._changes, *self._changes_elsewhere()):
                if wanted.get((change.engine, change.container), change.run) != change.run:
                    return change
            self.record(*claims)
        return None

    def adopt(self) -> None:
        """Take over what dead processes have left behind, and remove their files."""
        for path in self._others():
            with _claimed(path) as claimed:
                if not claimed:
                    continue
                self.record(*_read(path))
                path.unlink()

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

    def _append(self, mark: str, changes: Sequence[Change]) -> None:
        lines = [json.dumps({mark: asdict(change)}) + "\n" for change in changes]
        os.write(self._descriptor, "".join(lines).encode())
        os.fsync(self._descriptor)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process makes claims meanwhile."""
        with _writing(self._path):
            descriptor = os.open(
                self._directory / "claims.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _changes_elsewhere(self) -> Iterator[Change]:
        for path in self._others():
            with _claimed(path) as claimed:
                if not claimed:
                    yield from _read(path)

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
            with suppress(ValueError, TypeError, KeyError):
                [(mark, fields)] = json.loads(line).items()
                if mark == _MADE:
                    changes.append(Change.read(fields))
                else:
                    changes.remove(Change.read(fields))
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
