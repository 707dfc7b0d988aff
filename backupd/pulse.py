"""The daemon's beat: notices when the clock is set, and tells systemd that it lives, while it does."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from backupd.systemd import Supervisor

log = structlog.get_logger(__name__)

BEAT_SECONDS = 10.0
JUMP_SECONDS = 60.0
"""A clock that is put right by less changes nothing that matters to a schedule."""


class Pulse:
    """`beat` is to be called every `seconds`.

    Where the clock on the wall has gone more than a minute further than time has, or less far, because it was
    set or the machine slept, `clock_moved` is called.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        lives: Callable[[], bool],
        clock_moved: Callable[[], None],
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = min(BEAT_SECONDS, (supervisor.watchdog_seconds or BEAT_SECONDS) / 3)
        self._supervisor, self._lives, self._clock_moved = supervisor, lives, clock_moved
        self._wall, self._steady = wall, steady
        self._ahead = wall() - steady()
        self._lived = True

    def beat(self) -> None:
        """Look at the clock and at what should live."""
        ahead = self._wall() - self._steady()
        moved, self._ahead = ahead - self._ahead, ahead
        if abs(moved) > JUMP_SECONDS:
            log.warning("clock was set, or the machine slept", seconds=round(moved))
            self._clock_moved()
        lives = self._lives()
        if lives:
            self._supervisor.alive()
        elif self._lived:
            log.error("daemon does not look after its schedule any more", hint="restart it")
        self._lived = lives
