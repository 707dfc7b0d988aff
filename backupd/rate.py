"""So many bytes a second, for all who share the rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BURST_SECONDS = 1.0
"""Who was idle may make up for so much of it."""

CHECK_SECONDS = 0.25
"""How often who waits asks whether it still has to."""


class Rate:
    """A token bucket. Any number of threads take from it, and together they pass at its rate."""

    def __init__(
        self,
        bytes_per_second: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bytes_per_second, self._clock, self._sleep = bytes_per_second, clock, sleep
        self._paid = clock() - BURST_SECONDS
        self._lock = threading.Lock()

    def take(self, size: int, check: Callable[[], None]) -> None:
        """Wait until what was taken before is paid for, in the order of the calls, and owe `size` bytes.

        Whatever `check`, which is called while waiting, raises ends it.
        """
        with self._lock:
            begin = max(self._paid, self._clock() - BURST_SECONDS)
            self._paid = begin + size / self._bytes_per_second
        while (left := begin - self._clock()) > 0:
            check()
            self._sleep(min(left, CHECK_SECONDS))
