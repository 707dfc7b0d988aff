"""Leave to remove a volume unsaved: given by a person, for once and for a short time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

SECONDS = 600


class Passes:
    """Which volumes may go unsaved. Kept in memory only: a gate that starts anew has given none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def give(self, volumes: Iterable[str]) -> None:
        """Let the next removal of each of these volumes be, if it comes within ten minutes."""
        with self._lock:
            self._until.update(dict.fromkeys(volumes, self._clock() + SECONDS))

    def take(self, volume: str) -> bool:
        """Was there leave? Then it is used up."""
        with self._lock:
            return self._until.pop(volume, 0.0) > self._clock()
