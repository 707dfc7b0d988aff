"""How far an operation is: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from backupd.progress import Progress, Tally, silent


@contextmanager
def shown(title: str, *, things: str = "files") -> Iterator[Progress]:
    """Where an operation reports to; drawn on standard error if that is a terminal, counting `things`."""
    if not sys.stderr.isatty():
        yield silent
        return
    # Not above: where nothing is drawn, nobody waits for rich.
    from backupd.cli.bar import make_bar

    with make_bar(things) as bar:
        task = bar.add_task(title, total=None, members=0)

        def report(tally: Tally) -> None:
            bar.update(task, completed=tally.bytes_done, total=tally.bytes_total, members=tally.members)

        yield report


@contextmanager
def cancellable(cancel: threading.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM set an event, so that an operation ends in order; a second SIGINT kills."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if cancel.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        # Not here: this thread may be inside the event's own lock.
        threading.Thread(target=cancel.set).start()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
