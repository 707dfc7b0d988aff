"""The gap between two health checks of a container, in which it can be paused.

A pause that hits an exec while it starts can freeze it half-way: the engine then waits for it, and neither
inspects nor unpauses that container, for a health check until its timeout, for any other exec for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from docker.errors import NotFound

from backupd.engine.client import Engine, moment
from backupd.engine.quiet.condition import INSPECT_SECONDS

BEFORE_SECONDS = 60.0
"""How long is waited at most while nobody stands still yet."""

WITHIN_SECONDS = 10.0
"""How long is waited at most while others may stand still already."""

DEFAULT_SECONDS = 30.0
"""What the engine takes for an interval, and for the time a check may take, that is not given."""

DEFAULT_START_SECONDS = 5.0
"""The same for the interval while a container starts."""

_ROOM_SECONDS = 1.0
_LATE_SECONDS = 2.0
_LOOK_SECONDS = 0.05
_NANO = 1e-9


@dataclass(frozen=True)
class Rhythm:
    """When a container is checked: `since` the end of the last check, or the start; times in seconds."""

    since: datetime
    interval: float
    timeout: float


def delay(since: datetime, interval: float, now: datetime) -> float:
    """Seconds after which to look again; 0 if no check begins for about a second, or half an interval.

    A check that should be over may run now, or the container was paused meanwhile, from when the engine
    counts anew. That is waited for, but not where checks are so rare that none will meet the pause.
    """
    left = interval - (now - since).total_seconds()
    if left >= min(_ROOM_SECONDS, interval / 2):
        return 0.0
    if left < -_LATE_SECONDS and interval > DEFAULT_SECONDS:
        return 0.0
    return max(left, 0.0) + _LOOK_SECONDS


def rhythm(answer: Mapping[str, Any]) -> Rhythm | None:
    """The rhythm in what the engine says of a container; None if it is not checked, or does not run."""
    state, config = answer["State"], answer["Config"].get("Healthcheck") or {}
    if not state["Running"] or state["Paused"] or state.get("Health") is None:
        return None
    interval = _seconds(config, "Interval", DEFAULT_SECONDS)
    if state["Health"].get("Status") == "starting" and config.get("StartPeriod"):
        interval = min(interval, _seconds(config, "StartInterval", DEFAULT_START_SECONDS))
    ends = [moment(entry["End"]) for entry in state["Health"].get("Log") or ()]
    since = max([moment(state["StartedAt"]), *ends])
    return Rhythm(since, interval, _seconds(config, "Timeout", DEFAULT_SECONDS))


def await_gap(
    engine: Engine, container: str, name: str, check: Callable[[], None], *, at_most: float
) -> None:
    """Return when no health check of the container is about to begin, or that cannot be waited for.

    At most `at_most` seconds, and not longer than until the next check must be over. `check` is called
    meanwhile; what it raises ends the wait.
    """
    # even where nothing is checked: the engine answers only when no exec is starting just then
    if _look(engine, container, name) is None:
        return
    begun = time.monotonic()
    clock = engine.clock()
    while (found := _look(engine, container, name)) is not None:
        passed = time.monotonic() - begun
        wait = delay(found.since, found.interval, clock + timedelta(seconds=passed))
        if not wait or passed > min(at_most, found.interval + found.timeout + _LATE_SECONDS):
            return
        check()
        time.sleep(min(wait, 2 * _LOOK_SECONDS))


def _look(engine: Engine, container: str, name: str) -> Rhythm | None:
    with engine.within(INSPECT_SECONDS, f"inspect container {name}") as api:
        try:
            return rhythm(api.inspect_container(container))
        except NotFound:
            return None


def _seconds(config: Mapping[str, Any], name: str, default: float) -> float:
    return float(config.get(name) or 0) * _NANO or default
