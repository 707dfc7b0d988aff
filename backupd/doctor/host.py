"""This machine: its clock's zone, and the state directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime

from backupd.doctor.finding import Finding, bad, good
from backupd.opening import zone
from backupd.settings import Settings


def examine(settings: Settings) -> Iterator[Finding]:
    """The time zone of schedules, and whether the state directory can be written to."""
    now = datetime.now(zone(settings))
    yield good("schedules", f"they follow the clock of {now.tzinfo}: it is {now:%Y-%m-%d %H:%M} there")
    directory = settings.state_dir
    if directory.is_dir() and os.access(directory, os.W_OK | os.X_OK):
        yield good("state", f"{directory} can be written to")
        return
    yield bad(
        "state",
        f"{directory} is no directory that this user can write to",
        "make it, or set state_dir (BACKUPD_STATE_DIR); in a container, mount a volume there",
    )
