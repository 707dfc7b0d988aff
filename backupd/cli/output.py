"""What a command prints: tables that fit the terminal, JSON, and the question before destruction."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from backupd import logs
from backupd.errors import Interrupted, UsageError
from backupd.settings import Settings

# Where nobody looks at a terminal, lines stay whole for grep.
_PIPE_COLUMNS = 1000


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> None:
    """Print rows under their column names: in `right` aligned to the right, in `whole` never broken."""
    # Not above: most commands draw no table, and rich takes a tenth of a second to come.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(
            name, justify="right" if name in right else "left", no_wrap=name in whole, overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_COLUMNS)
    console.print(table)


def print_json(value: Any) -> None:
    """Print one JSON value."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def say(text: str) -> None:
    """Tell a person at the terminal what goes on; standard output stays clean for results."""
    sys.stderr.write(text + "\n")


def speak(settings: Settings) -> None:
    """Log to standard error, unless a person reads it: they are told in words."""
    logs.configure(settings.log.format, settings.log.level, sys.stderr)
    if sys.stderr.isatty():
        logging.disable()


def confirm(names: Sequence[str], *, yes: bool) -> None:
    """Let a person type the names of what is overwritten; `UsageError` where nobody can, without `--yes`."""
    if yes or not names:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("this needs a confirmation and there is no terminal to ask on", hint="add --yes")
    for name in names:
        sys.stderr.write(f"type {name} to go on: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip() != name:
            raise Interrupted("not confirmed, nothing was changed")
