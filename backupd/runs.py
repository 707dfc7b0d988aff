"""One run of one volume's backup, as those hear of it who count, show and tell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from backupd.snapshot import Manifest

Outcome = Literal["ok", "fuzzy", "degraded", "failed", "skipped", "interrupted"]
"""`skipped`, somebody else saves the volume, and `interrupted`, told to stop, are no failures."""


@dataclass(frozen=True)
class Run:
    """A run from its start (`outcome` is None as long as it goes on) to its end.

    `group` is what its volume is saved together with, the volume's own name where it is alone. `manifest` is
    there once there is a snapshot, `error` and `hint` say what went wrong.
    """

    volume: str
    group: str
    started: datetime
    seconds: float = 0.0
    outcome: Outcome | None = None
    error: str | None = None
    hint: str | None = None
    manifest: Manifest | None = None


class Listener(Protocol):
    """Hears of every run: `started` first, then `ended`, once each, from the thread that runs it.

    Runs of several volumes overlap. A listener must return quickly and not raise.
    """

    def started(self, run: Run) -> None:
        """The run begins; its `outcome` is None."""
        ...

    def ended(self, run: Run) -> None:
        """The run is over; its `outcome` is known."""
        ...
