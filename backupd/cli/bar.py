"""The progress bar that a terminal shows."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from backupd.cli.words import size


def make_bar(things: str) -> Progress:
    """A bar on standard error for a task that counts `things` in its `members`, and bytes as its measure."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        _Size(),
        TransferSpeedColumn(),
        TextColumn(f"{{task.fields[members]}} {things}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=5,
    )


class _Size(ProgressColumn):
    """Bytes done, and of how many where that is known."""

    def render(self, task: Task) -> Text:
        total = f" / {size(task.total)}" if task.total else ""
        return Text(f"{size(task.completed)}{total}")
