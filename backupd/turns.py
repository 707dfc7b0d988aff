"""Who waits to be backed up and who is at work: one queue, so many at once, nothing twice at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Turn:
    """A place in the queue: whose turn it is, and since when it waits."""

    key: str
    since: datetime


class Turns:
    """Calls `work(key)` for each turn, in the order in which they were added.

    At most `limit` are at work at once, each in a thread of its own, and never two that have a claim in
    common: `claims(key)` says what a turn works on. One that must wait for a claim lets others pass, but
    none that has a claim in common with it, so nobody waits for ever. Any thread may call.

    `work` must not raise; `claims` must return at once.
    """

    def __init__(
        self,
        work: Callable[[str], object],
        claims: Callable[[str], frozenset[str]],
        *,
        limit: int,
    ) -> None:
        self._work, self._claims, self._limit = work, claims, limit
        self._waiting: list[Turn] = []
        self._working: dict[Turn, frozenset[str]] = {}
        self._news = threading.Condition()
        self._stopped = False

    def add(self, key: str) -> bool:
        """Let it wait for its turn; False, and nothing done, where an earlier one still waits or works."""
        with self._news:
            if self._stopped or any(turn.key == key for turn in (*self._waiting, *self._working)):
                return False
            self._waiting.append(Turn(key, datetime.now(UTC)))
            self._advance()
            return True

    def resize(self, limit: int) -> None:
        """Let so many be at work at once from now on; those that are go on."""
        with self._news:
            self._limit = limit
            self._advance()

    @property
    def waiting(self) -> tuple[Turn, ...]:
        """Who waits, the next one first."""
        with self._news:
            return tuple(self._waiting)

    @property
    def working(self) -> tuple[Turn, ...]:
        """Who is at work, in the order in which they began."""
        with self._news:
            return tuple(self._working)

    def stop(self) -> None:
        """Give no more turns, send away who waits, and wait for those at work."""
        with self._news:
            self._stopped = True
            self._waiting.clear()
            self._news.wait_for(lambda: not self._working)

    def _advance(self) -> None:
        """Begin what may begin; the lock is held."""
        taken = frozenset[str]().union(*self._working.values())
        for turn in tuple(self._waiting):
            if len(self._working) >= self._limit:
                return
            claims = self._claims(turn.key)
            if claims.isdisjoint(taken):
                threading.Thread(
                    target=self._take, args=(turn,), name=f"backupd-run-{turn.key}", daemon=True
                ).start()
                self._working[turn] = claims
                self._waiting.remove(turn)
            taken |= claims

    def _take(self, turn: Turn) -> None:
        try:
            self._work(turn.key)
        except Exception:  # a turn ends, whatever happened in it
            log.exception("turn failed", turn=turn.key)
        finally:
            with self._news:
                del self._working[turn]
                if not self._stopped:
                    self._advance()
                self._news.notify_all()
