"""Locks between processes on one state directory, held by the kernel: a killed holder holds nothing."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from backupd.errors import BackupdError, Interrupted, Locked

_PATIENCE_SECONDS = 0.2


@contextmanager
def daemon_lock(state_dir: Path) -> Iterator[None]:
    """Makes this the only daemon on `state_dir`; `Locked` names the other one (its pid, host and start)."""
    with _held(
        state_dir / "daemon.lock",
        f"state directory {state_dir}",
        "stop that daemon first, or give this one a state_dir of its own",
    ):
        yield


@contextmanager
def volume_lock(state_dir: Path, volume: str) -> Iterator[None]:
    """Makes this the only run on `volume`, among threads and processes; `Locked` names the other one."""
    with _held(
        state_dir / "volumes" / volume,
        f"volume {volume}",
        "wait for that run to end and try again",
    ):
        yield


def await_volume(state_dir: Path, volume: str, cancel: threading.Event) -> None:
    """Return once no run is at work on the volume, however long that takes; `Interrupted` if cancelled."""
    while True:
        try:
            with volume_lock(state_dir, volume):
                return
        except Locked as error:
            if cancel.wait(_PATIENCE_SECONDS):
                raise Interrupted(f"told to stop while {error.message}") from error


@contextmanager
def prune_lock(state_dir: Path) -> Iterator[None]:
    """Makes this the only prune on `state_dir`; `Locked` names the other one.

    For the sake of the work alone, which two would do twice: two at once do no harm.
    """
    with _held(state_dir / "prune.lock", "prune", "wait for that run to end and try again"):
        yield


@contextmanager
def _held(path: Path, thing: str, hint: str) -> Iterator[None]:
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(f"{thing} is in use by {_holder(file)}", hint=hint) from None
        file.truncate(0)
        since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        file.write(f"pid {os.getpid()} on {socket.gethostname()} since {since}")
        file.flush()
        yield


def _opened(path: Path) -> TextIO:
    """The lock file, never removed: a lock on a name that another process recreates would exclude nobody."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        raise BackupdError(
            f"state directory cannot be used: {path}: {error.strerror}",
            hint="make it writable for this user, or set BACKUPD_STATE_DIR to a directory that is",
        ) from error


def _holder(file: TextIO) -> str:
    file.seek(0)
    return file.read() or "another process"
