"""Several volumes, read while the containers of all of them stand still, so that they belong together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from backupd.engine.discovery import survey, writers
from backupd.engine.quiesce import Patient, Quiesce
from backupd.errors import BackupdError
from backupd.operations.context import Context
from backupd.operations.quiet import Quiet
from backupd.operations.reading import Stillness
from backupd.operations.taking import Shared, Subject, Taken, Wish, take
from backupd.snapshot import new_id
from backupd.treatment import merged
from backupd.volume import Container

READERS = 4
"""So many volumes are read at once: more would not be faster, and each takes memory."""


@dataclass(frozen=True)
class Result:
    """What became of one volume: a snapshot, or an error."""

    volume: str
    outcome: Taken | BackupdError

    @property
    def taken(self) -> Taken:
        """The snapshot; raises the error where there is none."""
        if isinstance(self.outcome, BackupdError):
            raise self.outcome
        return self.outcome


def read_together(context: Context, wishes: Sequence[Wish], *, cancel: threading.Event) -> tuple[Result, ...]:
    """Save volumes in one quiet, each as a new snapshot; the results in the order of the wishes.

    Everything is prepared before the quiet: it lasts from the first byte that is read to the last, while
    what was read may still be on its way to the storage. A volume that fails does not keep the others from
    being saved, unless a container could not be calmed, or not be brought back.
    """
    containers = _Containers(context, cancel)
    shared = Shared(
        run=new_id(datetime.now(UTC)),
        seen=survey(context.engine),
        volumes=tuple(wish.volume for wish in wishes),
        quiet=Quiet(len(wishes)),
        check=containers.quiesce.check,
        readers=min(READERS, len(wishes)),
        slots=threading.Semaphore(READERS),
        cancel=cancel,
    )
    with ThreadPoolExecutor(len(wishes), thread_name_prefix="window") as pool:
        saving = [pool.submit(_result, wish, shared) for wish in wishes]
        try:
            shared.quiet.hold(containers.still)
        except BaseException:
            cancel.set()
            raise
        return tuple(each.result() for each in saving)


def _result(wish: Wish, shared: Shared) -> Result:
    try:
        return Result(wish.volume, take(wish, shared))
    except BackupdError as error:
        return Result(wish.volume, error)


class _Containers:
    """Those that write to a window's volumes, as far as these are going to be read."""

    def __init__(self, context: Context, cancel: threading.Event) -> None:
        self._engine = context.engine
        self._subjects: dict[str, Subject] = {}
        self.quiesce = Quiesce(
            context.engine,
            context.journal,
            self._look,
            image=context.image,
            instance=context.instance,
            limit_seconds=context.quiesce_limit_seconds,
            cancel=cancel,
        )

    @contextmanager
    def still(self, subjects: Sequence[Subject]) -> Iterator[Callable[[], Stillness]]:
        """Have them stand still; what was yielded tells of it afterwards."""
        self._subjects = {subject.volume.name: subject for subject in subjects}
        began = datetime.now(UTC)
        with self.quiesce:
            yield lambda: Stillness(began, ended, self.quiesce.end())
        ended = datetime.now(UTC)

    def _look(self) -> tuple[Patient, ...]:
        return tuple(self._patient(container) for container in writers(self._engine, self._subjects))

    def _patient(self, container: Container) -> Patient:
        written = [subject for name, subject in self._subjects.items() if container.writes(name)]
        return Patient(container, merged(each.treat(each.volume, container) for each in written))
