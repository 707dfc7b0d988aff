"""How messages leave: each channel in a thread of its own, with patience that ends."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import structlog

from backupd.notify.post import NotDelivered

log = structlog.get_logger(__name__)

DEADLINE_SECONDS = 600.0
LIMIT = 1000
"""So many messages wait at most: then the oldest are given up."""

_FIRST_PAUSE_SECONDS = 1.0
_LAST_PAUSE_SECONDS = 60.0


class Message(Protocol):
    """What is delivered, and its one line in the log."""

    @property
    def title(self) -> str: ...


M = TypeVar("M", bound=Message)


class Delivery(Generic[M]):
    """One channel. `put` returns at once and never raises; messages leave in order, from one thread.

    What fails is tried again with growing pauses until ten minutes after it was put; what never arrives is
    logged and counted in `undelivered`, the last reason in `error`.
    """

    def __init__(
        self, name: str, send: Callable[[M], None], *, deadline_seconds: float = DEADLINE_SECONDS
    ) -> None:
        self.name = name
        self.undelivered = 0
        self.error: str | None = None
        self._send = send
        self._deadline_seconds = deadline_seconds
        self._waiting: deque[tuple[float, M]] = deque()
        self._news = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"backupd-{name}", daemon=True)
        self._thread.start()

    def put(self, message: M) -> None:
        """Have it delivered."""
        with self._news:
            if len(self._waiting) >= LIMIT:
                self._give_up(self._waiting.popleft()[1], "too many messages wait")
            self._waiting.append((time.monotonic() + self._deadline_seconds, message))
            self._news.notify()

    def close(self, seconds: float) -> None:
        """Try each message that waits once more, for so many seconds in all; what is left then is lost."""
        self._closed.set()
        with self._news:
            self._news.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._closed.is_set())
                if not self._waiting:
                    return
                deadline, message = self._waiting.popleft()
            self._deliver(message, deadline)

    def _deliver(self, message: M, deadline: float) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                self._send(message)
            except NotDelivered as error:
                late = time.monotonic() + pause > deadline or self._closed.is_set()
                if not error.again or late:
                    return self._give_up(message, str(error))
                log.info("notification is tried again", channel=self.name, error=str(error))
            except Exception as error:  # a channel that is in error must not end the thread
                log.exception("notification failed", channel=self.name)
                return self._give_up(message, type(error).__name__)
            else:
                self.error = None
                return None
            self._closed.wait(pause)
            pause = min(2 * pause, _LAST_PAUSE_SECONDS)

    def _give_up(self, message: M, reason: str) -> None:
        self.undelivered += 1
        self.error = reason
        log.error("notification not delivered", channel=self.name, message=message.title, error=reason)
