"""Several volumes, read while the containers of all of them stand still, so that they belong together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from backupd.engine.discovery import survey
from backupd.engine.quiesce import quiesce
from backupd.errors import BackupdError
from backupd.operations.context import Context
from backupd.operations.quiet import Quiet
from backupd.operations.reading import Reading, Stillness
from backupd.operations.taking import Shared, Wish, take
from backupd.snapshot import Manifest, new_id
from backupd.volume import Container

READERS = 4
"""So many volumes are read at once: more would not be faster, and each takes memory."""


@dataclass(frozen=True)
class Result:
    """What became of one volume: a snapshot, or an error."""

    volume: str
    outcome: Manifest | BackupdError

    @property
    def manifest(self) -> Manifest:
        """The snapshot's; raises the error where there is none."""
        if isinstance(self.outcome, BackupdError):
            raise self.outcome
        return self.outcome


def read_together(context: Context, wishes: Sequence[Wish], *, cancel: threading.Event) -> tuple[Result, ...]:
    """Save volumes in one quiet, each as a new snapshot; the results in the order of the wishes.

    Everything is prepared before the quiet: it lasts from the first byte that is read to the last, while
    what was read may still be on its way to the storage. A volume that fails does not keep the others from
    being saved, unless a container could not be calmed, or not be woken.
    """
    shared = Shared(
        run=new_id(datetime.now(UTC)),
        seen=survey(context.engine),
        volumes=tuple(wish.volume for wish in wishes),
        quiet=Quiet(len(wishes)),
        readers=min(READERS, len(wishes)),
        slots=threading.Semaphore(READERS),
        cancel=cancel,
    )
    with ThreadPoolExecutor(len(wishes), thread_name_prefix="window") as pool:
        saving = [pool.submit(_result, wish, shared) for wish in wishes]
        try:
            shared.quiet.hold(lambda readings: _still(context, readings))
        except BaseException:
            cancel.set()
            raise
        return tuple(each.result() for each in saving)


def _result(wish: Wish, shared: Shared) -> Result:
    try:
        return Result(wish.volume, take(wish, shared))
    except BackupdError as error:
        return Result(wish.volume, error)


@contextmanager
def _still(context: Context, readings: Sequence[Reading]) -> Iterator[Callable[[], Stillness]]:
    """The containers of all these volumes stand still."""
    began, since = datetime.now(UTC), time.monotonic()
    with quiesce(context.engine, context.journal, _containers(readings)) as calmed:
        yield lambda: Stillness(calmed, began, ended, seconds, survey(context.engine))
    ended, seconds = datetime.now(UTC), time.monotonic() - since


def _containers(readings: Sequence[Reading]) -> tuple[Container, ...]:
    held = {container.name: container for reading in readings for container in reading.to_hold}
    return tuple(held[name] for name in sorted(held))
