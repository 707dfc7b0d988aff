"""How far an operation is: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import (
    Progress as Bar,
)
from rich.text import Text

from backupd.cli.words import size
from backupd.progress import Progress, Tally, silent


@contextmanager
def shown(title: str, *, things: str = "files") -> Iterator[Progress]:
    """Where an operation reports to; drawn on standard error if that is a terminal, counting `things`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield silent
        return
    with _bar(console, things) as bar:
        task = bar.add_task(title, total=None, members=0)

        def report(tally: Tally) -> None:
            bar.update(task, completed=tally.bytes_done, total=tally.bytes_total, members=tally.members)

        yield report


@contextmanager
def cancellable() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that an operation ends in order; a second SIGINT kills."""
    cancel = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if cancel.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        # Not here: this thread may be inside the event's own lock.
        threading.Thread(target=cancel.set).start()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Size(ProgressColumn):
    """Bytes done, and of how many where that is known."""

    def render(self, task: Task) -> Text:
        total = f" / {size(task.total)}" if task.total else ""
        return Text(f"{size(task.completed)}{total}")


def _bar(console: Console, things: str) -> Bar:
    return Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        _Size(),
        TransferSpeedColumn(),
        TextColumn(f"{{task.fields[members]}} {things}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        refresh_per_second=5,
    )
