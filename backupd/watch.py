"""What the engine has: looked at when it reports news, and now and then in any case."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from backupd.engine.client import Engine
from backupd.engine.discovery import Survey, events, survey
from backupd.errors import EngineError

log = structlog.get_logger(__name__)

LOOK_SECONDS = 30
"""How often the engine is asked even if it reports nothing: an engine that is gone reports nothing."""

REST_SECONDS = 0.5
"""How long a look is put off after the last: compose makes and removes containers by the dozen."""

REST_FACTOR = 20
"""And so many times what a look has cost: where containers come and go all day, that takes 5 % of a core."""

STUCK_SECONDS = 600
"""A look that takes so long will not end: every call to the engine has a time of its own."""

JOIN_SECONDS = 5
"""How long a thread may take to end; one that waits for a silent engine ends with the process."""


class Watch:
    """Calls `saw(survey, back)` from one thread: first when the engine's events can be heard, then on news.

    `back` says that the engine has just come back after it was away. `saw` must not raise.
    """

    def __init__(self, engine: Engine, stop: threading.Event, saw: Callable[[Survey, bool], None]) -> None:
        self.away = False
        self._engine, self._stop, self._saw = engine, stop, saw
        self._news = threading.Event()
        self._looked = time.monotonic()
        self._threads = (
            threading.Thread(target=self._listen, name="backupd-events", daemon=True),
            threading.Thread(target=self._look_on_news, name="backupd-look", daemon=True),
        )

    def start(self) -> None:
        """Start calling."""
        for thread in self._threads:
            thread.start()

    def look_soon(self) -> None:
        """Look as if the engine had reported something."""
        self._news.set()

    def lives(self) -> bool:
        """Whether somebody still looks."""
        stuck = time.monotonic() - self._looked > STUCK_SECONDS
        return not stuck and all(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait, not for long, until nobody is called any more; `stop` must be set."""
        self._news.set()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def _listen(self) -> None:
        for _ in events(self._engine, self._stop):
            self._news.set()

    def _look_on_news(self) -> None:
        while not self._stop.is_set():
            self._news.wait(LOOK_SECONDS)
            self._news.clear()
            self._looked, cost = time.monotonic(), time.thread_time()
            if not self._stop.is_set():
                self._look()
            self._stop.wait(max(REST_SECONDS, REST_FACTOR * (time.thread_time() - cost)))

    def _look(self) -> None:
        try:
            seen = survey(self._engine)
        except EngineError as error:
            if not self.away:
                log.error("engine is away", error=error.message, hint=error.hint)
            self.away = True
            return
        back, self.away = self.away, False
        if back:
            log.info("engine is back")
        self._saw(seen, back)
