"""How far an operation has come, told to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Tally:
    """Bytes and members of the tar stream that are through, and the bytes expected where that is known.

    `phase` is what is done: "reading" while tar does, "storing" what is left after it.
    """

    bytes_done: int
    members: int = 0
    bytes_total: int | None = None
    phase: str = "reading"


Progress = Callable[[Tally], None]
"""Called now and then, from one thread; must return quickly."""


def silent(_: Tally) -> None:
    """Show nothing."""
