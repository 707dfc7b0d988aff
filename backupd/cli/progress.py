"""How far an operation is: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType

from backupd.progress import Progress, Tally, silent


@contextmanager
def shown(title: str, *, things: str = "files") -> Iterator[Progress]:
    """Where an operation reports to; drawn on standard error if that is a terminal, counting `things`."""
    with shown_each([title], things=things) as reports:
        yield reports(title)


@contextmanager
def shown_each(titles: Sequence[str], *, things: str = "files") -> Iterator[Callable[[str], Progress]]:
    """The same for each of several operations at once, by its title."""
    if not sys.stderr.isatty():
        yield lambda _: silent
        return
    # Not above: where nothing is drawn, nobody waits for rich.
    from backupd.cli.bar import make_bar

    with make_bar(things) as bar:
        tasks = {title: bar.add_task(title, total=None, members=0) for title in titles}

        def report(title: str, tally: Tally) -> None:
            bar.update(
                tasks[title], completed=tally.bytes_done, total=tally.bytes_total, members=tally.members
            )

        yield lambda title: partial(report, title)


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
