"""Tar out of a volume, and tar into it, through a throwaway container."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from backupd.engine.attachment import Attachment, Check
from backupd.engine.client import Engine
from backupd.engine.container import (
    VOLUME_PATH,
    HelperContainer,
    TarResult,
    Task,
    container,
    run_to_end,
)
from backupd.engine.fifo import FifoReader, FifoWriter, Meeting, Opening, meeting
from backupd.engine.image import EXTRACT_FLAGS, HelperImage
from backupd.errors import EngineError, Interrupted

__all__ = ["TarInput", "TarOutput", "TarResult", "export", "extract", "is_empty", "wipe"]

READ = ("DAC_READ_SEARCH",)
WRITE = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP")

Buffer = bytes | bytearray | memoryview


class TarOutput:
    """What tar writes, and how it ended. `transport` says how it comes: `fifo` or `attach`."""

    transport: str

    def __init__(self, job: _Job, opened: Callable[[], tuple[HelperContainer, FifoReader | None]]) -> None:
        self._job = job
        self._opened = opened
        self._names: Attachment | None = None
        self._begun = False
        self._worst = 1 if job.image.tar == "gnu" else 0
        self._result: TarResult | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Have tar run so far that all it needs is the name of what to read: it takes that from its input."""
        self._open()
        self._names = Attachment(self._job.engine, self._helper.id, stdin=True)
        try:
            yield
        finally:
            self._names.close()

    def begin(self) -> None:
        """Let tar read the volume; until then it has read nothing of it. Once is enough."""
        if self._begun:
            return
        self._begun = True
        if self._names is None:
            self._open()
            return
        # That nobody takes the name any more is told of by `readinto`.
        with suppress(OSError):
            self._names.write(memoryview(b".\n"), self._job.check)
        self._names.close_input()

    def readinto(self, buffer: memoryview) -> int:
        """Put the next bytes into `buffer`, and say how many; 0 when tar has ended well.

        Begins if nobody has. Raises `HelperFailed` where tar was cut short or ended badly, `Interrupted` if
        cancelled, and whatever `check` raises.
        """
        self._job.check()
        self.begin()
        size = self._reader.readinto(buffer, self._job.check)
        if self._job.engine.reading is not None:
            self._job.engine.reading.take(size, self._job.check)
        if size == 0:
            self.finish()
        return size

    def finish(self) -> TarResult:
        """Wait for tar's exit, after its last byte has been read; `HelperFailed` if it is no good one.

        Exit code 1 of GNU tar, which says that a file changed while it was read, is returned; busybox tar has
        no other code for failure, so there it fails.
        """
        if self._result is None:
            self._result = self._helper.result(self._job.check, worst=self._worst)
        return self._result

    def _open(self) -> None:
        self._helper, reader = self._opened()
        self._reader: FifoReader | HelperContainer = reader or self._helper
        self.transport = "fifo" if reader else "attach"


class TarInput:
    """What tar reads, and how it ended. `transport` says how it goes: `fifo` or `attach`."""

    def __init__(self, helper: HelperContainer, writer: FifoWriter | Attachment, job: _Job) -> None:
        self.transport = "fifo" if isinstance(writer, FifoWriter) else "attach"
        self._helper = helper
        self._writer = writer
        self._check = job.check

    def write(self, data: Buffer) -> None:
        """Hand on all of `data`; `HelperFailed` with tar's words if it has ended badly meanwhile."""
        self._check()
        if self._helper.ended.is_set():
            self._ended_early()
            return
        try:
            self._writer.write(memoryview(data).cast("B"), self._check)
        except OSError:
            self._ended_early()

    def finish(self) -> TarResult:
        """Tell tar that this was all, and wait for its exit; `HelperFailed` if it is not 0."""
        self._writer.close_input()
        return self._helper.result(self._check, worst=0)

    def _ended_early(self) -> None:
        """A tar that saw the end of the archive may leave padding unread: only a failure is one."""
        self._helper.result(self._check, worst=0)


@contextmanager
def export(
    engine: Engine,
    volume: str,
    image: HelperImage,
    *,
    instance: str,
    run: str,
    exclude: Sequence[str] = (),
    fifo_dir: Path | None = None,
    cancel: threading.Event | None = None,
    check: Check | None = None,
    below: str = "",
) -> Iterator[TarOutput]:
    """The volume, or a directory `below` its root, as a tar stream; it is mounted read-only, and the helper
    is removed in any case.

    The helper runs, but reads nothing before `begin`: what takes long is done. (busybox tar cannot wait, its
    helper is made then.) While the helper is there the engine refuses to delete the volume. `fifo_dir` is a
    directory in which helper and this process may meet; where they cannot, the stream comes through the
    engine. `check` is called while nothing moves and may raise to end it.
    Raises `VolumeNotFound`, never makes a volume.
    """
    waits = image.tar == "gnu"
    job = _Job(engine, volume, image, instance, run, cancel or threading.Event(), also=check, waits=waits)
    what = ("--files-from=-",) if waits else (".",)
    command = (
        "tar",
        *image.flags,
        *_excluded(exclude),
        "-C",
        f"{VOLUME_PATH}/{below}",
        "-f",
        "{archive}",
        *what,
    )
    with ExitStack() as stack:
        output = TarOutput(job, partial(_opened, stack, job, command, fifo_dir))
        if waits:
            stack.enter_context(output.waiting())
        yield output


def _opened(
    stack: ExitStack, job: _Job, command: tuple[str, ...], fifo_dir: Path | None
) -> tuple[HelperContainer, FifoReader | None]:
    """A running helper, and our end of its FIFO if they met there; both go with the stack."""
    met = _met(stack, job, command, fifo_dir, os.O_RDONLY)
    if met is not None:
        helper, descriptor = met
        reader = FifoReader(descriptor)
        stack.callback(reader.close)
        return helper, reader
    helper = stack.enter_context(container(job.engine, job.task(command)))
    helper.start()
    return helper, None


@contextmanager
def extract(
    engine: Engine,
    volume: str,
    image: HelperImage,
    *,
    instance: str,
    run: str,
    fifo_dir: Path | None = None,
    cancel: threading.Event | None = None,
    below: str = "",
) -> Iterator[TarInput]:
    """Unpack a tar stream into the volume, or `below` its root: into what is empty, for a link in it could
    lead tar elsewhere.

    What holds for `export` holds here; a stream that is cut leaves a part of its members behind.
    """
    job = _Job(engine, volume, image, instance, run, cancel or threading.Event(), writes=True)
    command = ("tar", *EXTRACT_FLAGS[image.tar], "-C", f"{VOLUME_PATH}/{below}", "-f", "{archive}")
    with ExitStack() as stack:
        met = _met(stack, job, command, fifo_dir, os.O_WRONLY)
        if met is not None:
            helper, descriptor = met
            writer: FifoWriter | Attachment = FifoWriter(descriptor)
            stack.callback(writer.close)
        else:
            helper = stack.enter_context(container(engine, job.task(command)))
            writer = Attachment(engine, helper.id, stdin=True)
            stack.callback(writer.close)
            helper.listen()
            helper.start()
        yield TarInput(helper, writer, job)


def is_empty(engine: Engine, volume: str, image: HelperImage, *, instance: str, run: str) -> bool:
    """Whether there is nothing in the volume but what a file system brings along."""
    job = _Job(engine, volume, image, instance, run, threading.Event())
    return not run_to_end(engine, job.task((*_CONTENT, "-print")))


def wipe(engine: Engine, volume: str, image: HelperImage, *, instance: str, run: str) -> None:
    """Remove everything in the volume."""
    job = _Job(engine, volume, image, instance, run, threading.Event(), writes=True)
    run_to_end(engine, job.task((*_CONTENT, "-exec", "rm", "-rf", "{}", "+")))


_CONTENT = ("find", VOLUME_PATH, "-mindepth", "1", "-maxdepth", "1", "!", "-name", "lost+found")


@dataclass(frozen=True)
class _Job:
    engine: Engine
    volume: str
    image: HelperImage
    instance: str
    run: str
    cancelled: threading.Event
    writes: bool = False
    also: Check | None = None
    waits: bool = False

    def task(self, command: tuple[str, ...], fifo: Meeting | None = None) -> Task:
        archive = fifo.inside if fifo else "-"
        return Task(
            image=self.image.reference,
            command=tuple(archive if word == "{archive}" else word for word in command),
            volume=self.volume,
            writes=self.writes,
            capabilities=WRITE if self.writes else READ,
            instance=self.instance,
            run=self.run,
            mounts=(fifo.mount,) if fifo else (),
            stdin=self.waits or (self.writes and fifo is None),
        )

    def check(self) -> None:
        if self.cancelled.is_set():
            raise Interrupted(f"work on volume {self.volume} was cancelled")
        if self.also is not None:
            self.also()


def _met(
    stack: ExitStack, job: _Job, command: tuple[str, ...], directory: Path | None, flags: int
) -> tuple[HelperContainer, int] | None:
    """A running helper and our end of its FIFO; None where they do not meet, for whatever reason.

    The reason, if it is not the FIFO, shows again in the next transport.
    """
    with ExitStack() as tentative:
        try:
            fifo = tentative.enter_context(meeting(job.engine, directory))
            if fifo is None:
                return None
            helper = tentative.enter_context(container(job.engine, job.task(command, fifo)))
            helper.listen()
            opening = Opening(fifo.path, flags)
            try:
                helper.start()
                descriptor = opening.wait(helper.ended, job.check)
            finally:
                opening.abandon()
        except EngineError:
            return None
        if descriptor is None:
            return None
        stack.push(tentative.pop_all())
        return helper, descriptor


def _excluded(patterns: Sequence[str]) -> Iterator[str]:
    """Members are named from `.` on, so a pattern from the volume's root must be as well."""
    for pattern in patterns:
        yield f"--exclude={'.' if pattern.startswith('/') else ''}{pattern}"
