"""A FIFO that this process and a helper container both reach: the fastest way between them."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from docker.types import Mount

from backupd.engine.attachment import PATIENCE_SECONDS, Check
from backupd.engine.client import Engine
from backupd.engine.mount import existing_volume
from backupd.engine.own import own_container

MEETING_SECONDS = 10
"""How long a started helper may take to open the FIFO before another transport is used."""

PIPE_BYTES = 1024 * 1024
_INSIDE = "/backupd"


@dataclass(frozen=True)
class Meeting:
    """A FIFO: `path` as this process sees it, `inside` as a helper with `mount` does."""

    path: Path
    mount: Mount
    inside: str


@contextmanager
def meeting(engine: Engine, directory: Path | None) -> Iterator[Meeting | None]:
    """A FIFO in a directory of its own below `directory`, or None; it goes with the context."""
    place = _place(engine, directory) if directory is not None and _same_kernel(engine) else None
    if place is None:
        yield None
        return
    try:
        yield place
    finally:
        shutil.rmtree(place.path.parent, ignore_errors=True)


class Opening:
    """An attempt to open one end of a FIFO that waits in the background until somebody opens the other."""

    def __init__(self, path: Path, flags: int) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._met = threading.Event()
        self._opener = threading.Thread(target=self._open, args=(flags,), name="backupd-fifo", daemon=True)
        self._opener.start()

    def wait(self, ended: threading.Event, check: Check) -> int | None:
        """The non-blocking descriptor; None if nobody has come in time, or the other side has `ended`."""
        deadline = time.monotonic() + MEETING_SECONDS
        while not self._met.wait(0.02):
            check()
            if ended.is_set() or time.monotonic() > deadline:
                break
        if not self._met.wait(0.02):
            return None
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.set_blocking(descriptor, False)
            with suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return descriptor

    def abandon(self) -> None:
        """Stop waiting, unless the two have met, and close what `wait` has not handed out."""
        if not self._met.is_set():
            other_end = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._opener.join()
            os.close(other_end)
        self._opener.join()
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _open(self, flags: int) -> None:
        self._descriptor = os.open(self._path, flags | os.O_CLOEXEC)
        self._met.set()


class FifoReader:
    """The reading end; takes as much as is there."""

    name = "fifo"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def readinto(self, buffer: memoryview, check: Check) -> int:
        """Bytes into `buffer`, and how many; 0 when the other end is closed."""
        while True:
            try:
                return os.readv(self._descriptor, [buffer])
            except BlockingIOError:
                if not self._poll.poll(PATIENCE_SECONDS * 1000):
                    check()

    def close(self) -> None:
        """Let the other end fail if it goes on."""
        os.close(self._descriptor)


class FifoWriter:
    """The writing end."""

    name = "fifo"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, content: memoryview, check: Check) -> None:
        """Pass on all of `content`; `OSError` where nobody takes it any more."""
        while content:
            try:
                content = content[os.write(self._descriptor, content) :]
            except BlockingIOError:
                if not self._poll.poll(PATIENCE_SECONDS * 1000):
                    check()

    def close_input(self) -> None:
        """Let the other end see the end; closing again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    close = close_input


def _same_kernel(engine: Engine) -> bool:
    """A FIFO lives in one kernel: an engine elsewhere, or in a virtual machine, cannot share it."""
    return engine.socket is not None and engine.kernel == os.uname().release


def _place(engine: Engine, directory: Path) -> Meeting | None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(prefix="fifo-", dir=directory))
    except OSError:
        return None
    try:
        path = own / "tar"
        os.mkfifo(path)
        # the helper's root has no right to override modes; the directory keeps everybody else out
        path.chmod(0o666)
        found = _shared(engine, own.resolve())
    except OSError:
        found = None
    if found is None:
        shutil.rmtree(own, ignore_errors=True)
        return None
    mount, below = found
    return Meeting(path, mount, str(PurePosixPath(_INSIDE, below, "tar")))


def _shared(engine: Engine, directory: Path) -> tuple[Mount, str] | None:
    """How a helper mounts `directory`: the mount, and the path below it."""
    own = own_container(engine)
    if own is None:
        return Mount(_INSIDE, str(directory), type="bind", read_only=True), "."
    holding = [mount for mount in own.mounts if directory.is_relative_to(mount.destination)]
    if not holding:
        return None
    mount = max(holding, key=lambda mount: len(mount.destination))
    below = str(directory.relative_to(mount.destination))
    if mount.kind == "volume":
        return existing_volume(engine, mount.source, _INSIDE, read_only=True), below
    return Mount(_INSIDE, str(Path(mount.source, below)), type="bind", read_only=True), "."
