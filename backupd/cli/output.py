"""What a command prints: tables that fit the terminal, JSON, and the question before destruction."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from backupd import logs
from backupd.errors import Interrupted, UsageError
from backupd.settings import Settings


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> None:
    """Print rows under their column names: in `right` aligned to the right, in `whole` never broken.

    Where nobody looks at a terminal, lines stay whole for grep, however long they are.
    """
    table = [tuple(_printable(cell) for cell in row) for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    room = terminal_columns()
    if room is None or (sum(widths) + 2 * len(widths) <= room and all(map(str.isascii, chain(*table)))):
        _print_plain(table, widths, [name in right for name in columns])
    else:
        _print_folded(table, right, whole)


def terminal_columns() -> int | None:
    """How wide the terminal is that somebody looks at; None where nobody does."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_lines(*lines: str) -> None:
    """Print lines that may be as long as they are."""
    sys.stdout.write("".join(f"{_printable(line)}\n" for line in lines))


def print_json(value: Any) -> None:
    """Print one JSON value; of a list, each item on a line of its own."""
    if isinstance(value, list) and value:
        text = "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]"
    else:
        text = json.dumps(value, ensure_ascii=False, indent=2)
    sys.stdout.write(text + "\n")


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


def _printable(cell: str) -> str:
    return (
        cell
        if cell.isprintable()
        else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cell)
    )


def _print_plain(table: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[bool]) -> None:
    align = [str.rjust if to_right else str.ljust for to_right in right]
    rule = ["─" * width for width in widths]
    for row in (table[0], rule, *table[1:]):
        cells = (pad(cell, width) for pad, cell, width in zip(align, row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _print_folded(table: Sequence[Sequence[str]], right: Sequence[str], whole: Sequence[str]) -> None:
    # Not above: most commands need none of this, and rich takes a tenth of a second to come.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in table[0]:
        drawn.add_column(
            name, justify="right" if name in right else "left", no_wrap=name in whole, overflow="fold"
        )
    for row in table[1:]:
        drawn.add_row(*(Text(cell) for cell in row))
    Console().print(drawn)
