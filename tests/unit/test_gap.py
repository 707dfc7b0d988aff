"""When a container with a health check can be paused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backupd.engine.quiet.gap import Rhythm, delay, rhythm

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = 10**9


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("interval", "passed"), [(30, 0), (30, 28.9), (1, 0), (1, 0.4), (0.1, 0.04), (3600, 1800)]
)
def test_between_two_checks_is_no_delay(interval: float, passed: float) -> None:
    """A second, or half of a short interval, is room enough."""
    assert delay(NOON, interval, after(passed)) == 0


@pytest.mark.parametrize(("interval", "passed"), [(30, 29.5), (1, 0.6), (0.1, 0.06), (3600, 3599.5)])
def test_check_that_is_due_soon_is_waited_for(interval: float, passed: float) -> None:
    """It is looked again when the check has just begun."""
    assert interval - passed < delay(NOON, interval, after(passed)) < interval - passed + 0.2


@pytest.mark.parametrize(("interval", "passed"), [(30, 30.5), (30, 300), (1, 1.5), (1, 60), (3600, 3601)])
def test_check_that_should_be_over_is_waited_for(interval: float, passed: float) -> None:
    """It may run just now, or be counted anew from when the container was paused."""
    assert 0 < delay(NOON, interval, after(passed)) < 0.2


def test_rare_check_of_unknown_time_is_not_waited_for() -> None:
    """An hour is not waited for what will hardly meet a moment."""
    assert delay(NOON, 3600, after(3700)) == 0


def test_clock_that_was_set_back_is_no_delay() -> None:
    """What ended in the future cannot be counted from."""
    assert delay(NOON, 30, after(-3600)) == 0


def inspected(log: list[str], *, health: str = "healthy", **config: int) -> dict[str, Any]:
    return {
        "Config": {"Healthcheck": {"Test": ["CMD", "true"], **config}},
        "State": {
            "Running": True,
            "Paused": False,
            "StartedAt": "2026-03-01T12:00:00.123456789Z",
            "Health": {"Status": health, "Log": [{"End": end} for end in log]},
        },
    }


def test_rhythm_counts_from_the_last_end() -> None:
    """In whatever zone the engine tells it; a zero, or nothing, stands for 30 seconds."""
    found = rhythm(inspected(["2026-03-01T13:01:00.5+01:00", "2026-03-01T13:02:00.5+01:00"], Interval=0))
    assert found == Rhythm(after(120.5), 30.0, 30.0)
    found = rhythm(inspected(["2026-03-01T12:02:00Z"], Interval=5 * SECOND, Timeout=2 * SECOND))
    assert found == Rhythm(after(120), 5.0, 2.0)


def test_rhythm_counts_from_the_start_where_that_is_later() -> None:
    """Before the first check; also where there are checks of an earlier start."""
    assert rhythm(inspected([])) == Rhythm(after(0.123456), 30.0, 30.0)
    assert rhythm(inspected(["2026-03-01T11:00:00Z"])) == Rhythm(after(0.123456), 30.0, 30.0)


def test_rhythm_is_quicker_while_the_container_starts() -> None:
    """By 5 seconds, or what is asked for, but only in a start period."""
    found = [
        rhythm(inspected([], health="starting", StartPeriod=60 * SECOND)),
        rhythm(inspected([], health="starting", StartPeriod=60 * SECOND, StartInterval=SECOND)),
        rhythm(inspected([], health="starting")),
        rhythm(inspected([], StartPeriod=60 * SECOND)),
    ]
    assert [each and each.interval for each in found] == [5.0, 1.0, 30.0, 30.0]


def test_without_check_there_is_no_rhythm() -> None:
    """None, one that is off, one of a container that does not run."""
    bare, paused, ended = inspected([]), inspected([]), inspected([])
    del bare["State"]["Health"], bare["Config"]["Healthcheck"]
    paused["State"]["Paused"] = True
    ended["State"]["Running"] = False
    assert [rhythm(answer) for answer in (bare, paused, ended)] == [None, None, None]
