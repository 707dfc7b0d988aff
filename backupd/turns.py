"""Who waits to be backed up and who is at work: one queue, so many at once, nothing twice at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from backupd.errors import Interrupted
from backupd.runs import Run

log = structlog.get_logger(__name__)

Runs = tuple[Run, ...]


@dataclass(frozen=True)
class Turn:
    """A place in the queue: whose turn it is, since when, and whether somebody waits for what comes of it."""

    name: str
    since: datetime
    urgent: bool = False


class Turns:
    """Calls `work(turn)` for each turn, in the order in which they were added, urgent ones first.

    At most `limit` are at work at once, each in a thread of its own, and never two that have a claim in
    common: `claims(turn)` names what a turn works on. One that must wait for a claim lets others pass, but
    none that has a claim in common with it, so nobody waits for ever. Any thread may call.

    `work` may raise nothing but what whoever asked shall hear; `claims` must return at once.
    """

    def __init__(
        self,
        work: Callable[[Turn], Runs],
        claims: Callable[[Turn], frozenset[str]],
        *,
        limit: int,
    ) -> None:
        self._work, self._claims, self._limit = work, claims, limit
        self._waiting: list[_Place] = []
        self._working: dict[_Place, frozenset[str]] = {}
        self._news = threading.Condition()
        self._stopped = False

    def add(self, name: str) -> bool:
        """Let it wait for its turn; False, and nothing done, where an earlier one still waits or works."""
        with self._news:
            if self._stopped or self._find(name, urgent=False):
                return False
            self._waiting.append(_Place(Turn(name, datetime.now(UTC))))
            self._advance()
            return True

    def ask(self, name: str) -> Future[Runs]:
        """Let it have the next turn; what comes of it. Who asks again before it has ended joins it.

        A turn that was added is not joined: it may have read already what changed since.
        """
        with self._news:
            place = self._find(name, urgent=True)
            if place is None:
                place = _Place(Turn(name, datetime.now(UTC), urgent=True))
                if self._stopped:
                    place.done.set_exception(_stopping(name))
                    return place.done
                self._waiting.insert(sum(other.turn.urgent for other in self._waiting), place)
                self._advance()
            return place.done

    def resize(self, limit: int) -> None:
        """Let so many be at work at once from now on; those that are go on."""
        with self._news:
            self._limit = limit
            self._advance()

    @property
    def waiting(self) -> tuple[Turn, ...]:
        """Who waits, the next one first."""
        with self._news:
            return tuple(place.turn for place in self._waiting)

    @property
    def working(self) -> tuple[Turn, ...]:
        """Who is at work, in the order in which they began."""
        with self._news:
            return tuple(place.turn for place in self._working)

    def stop(self) -> None:
        """Give no more turns, send away who waits, and wait for those at work."""
        with self._news:
            self._stopped = True
            for place in self._waiting:
                place.done.set_exception(_stopping(place.turn.name))
            self._waiting.clear()
            self._news.wait_for(lambda: not self._working)

    def _find(self, name: str, *, urgent: bool) -> _Place | None:
        places = (*self._waiting, *self._working)
        return next((each for each in places if (each.turn.name, each.turn.urgent) == (name, urgent)), None)

    def _advance(self) -> None:
        """Begin what may begin; the lock is held."""
        taken = frozenset[str]().union(*self._working.values())
        for place in tuple(self._waiting):
            if len(self._working) >= self._limit:
                return
            claims = self._claims(place.turn)
            if claims.isdisjoint(taken):
                threading.Thread(
                    target=self._take, args=(place,), name=f"backupd-run-{place.turn.name}", daemon=True
                ).start()
                self._working[place] = claims
                self._waiting.remove(place)
            taken |= claims

    def _take(self, place: _Place) -> None:
        try:
            place.done.set_result(self._work(place.turn))
        except BaseException as error:  # a thread's end is nobody's to catch, and its turn must end with it
            log.exception("turn failed", name=place.turn.name)
            place.done.set_exception(error)
        finally:
            with self._news:
                del self._working[place]
                if not self._stopped:
                    self._advance()
                self._news.notify_all()


class _Place:
    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.done: Future[Runs] = Future()


def _stopping(name: str) -> Interrupted:
    return Interrupted(f"{name} was not backed up: the daemon stops")
