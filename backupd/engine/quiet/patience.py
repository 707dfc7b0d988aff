"""Trying again to bring a container back while the engine refuses, or is not there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from backupd.errors import EngineError, EngineUnreachable

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """For how many seconds to try while the engine refuses, and while it is away."""

    refused_seconds: float = 15.0
    away_seconds: float = 180.0
    hurried: Callable[[], bool] = lambda: False
    """Whether somebody waits for the end: then an engine that is away gets no more time than the other."""

    def insist(self, act: Callable[[], T]) -> T:
        """What `act` returns, as soon as it raises no `EngineError`; the last one when patience ends."""
        begun, pause = time.monotonic(), 0.05
        while True:
            try:
                return act()
            except EngineError as error:
                away = isinstance(error, EngineUnreachable) and not self.hurried()
                if time.monotonic() - begun > (self.away_seconds if away else self.refused_seconds):
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
