from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from backupd.errors import QuiesceFailed
from backupd.health import Health, Watched, assess, deadline, stuck, unwritten
from backupd.record import Record
from tests.unit.records import NOON, run, watched


def judged(now: datetime, *records: Record, schedule: str = "0 2 * * *") -> Health:
    """The health of volume `shop`."""
    known: Mapping[str, Record] = {record.volume: record for record in records}
    return assess([watched(schedule=schedule)], known, now)


def test_a_volume_is_well_until_its_next_point_and_the_grace_have_passed() -> None:
    """S5: daily at two, half a day of grace, and twice the minute that the last success took."""
    record = Record("shop").ended(run("ok"))
    limit = datetime(2026, 11, 26, 14, 2, tzinfo=UTC)
    assert judged(limit, record).ok
    assert judged(limit, record).deadlines == {"shop": limit}
    health = judged(limit + timedelta(seconds=1), record)
    assert not health.ok
    [problem] = health.problems
    assert (problem.kind, problem.volume) == ("overdue", "shop")
    assert problem.since == datetime(2026, 11, 26, 2, 0, tzinfo=UTC)


def test_what_is_overdue_says_since_when_why_and_what_to_do() -> None:
    """A message that a person can act on."""
    record = Record("shop").ended(run("ok")).ended(run("failed", started=NOON + timedelta(hours=14)))
    [problem] = judged(NOON + timedelta(days=2), record).problems
    assert "the last one began 2026-11-25 12:00, 2 days ago" in problem.text
    assert "the next was due 2026-11-26 02:00" in problem.text
    assert "failing since 2026-11-26 02:01: the storage is full" in problem.text
    assert problem.hint == "make room"


def test_what_is_overdue_without_a_failure_names_the_run_that_goes_on() -> None:
    """A run that hangs is told of as well."""
    late = NOON + timedelta(days=2)
    record = Record("shop").ended(run("ok")).begun(run(None, started=late - timedelta(hours=30)))
    [problem] = judged(late, record).problems
    assert "a run began 2026-11-26 06:00 and has not succeeded" in problem.text
    assert "backupd backup shop" in problem.hint


def test_a_new_volume_has_until_its_first_point_and_the_grace() -> None:
    """It was seen first at noon; nothing was due before two."""
    record = Record("shop").seen(NOON)
    assert judged(NOON + timedelta(hours=26), record).ok
    health = judged(NOON + timedelta(hours=26, seconds=1), record)
    [problem] = health.problems
    assert "never yet" in problem.text


def test_failed_runs_are_no_problem_before_the_time_is_up() -> None:
    """People are told of them at once; health is about what the schedule promises."""
    record = Record("shop").ended(run("ok")).ended(run("failed", started=NOON + timedelta(hours=1)))
    assert judged(NOON + timedelta(hours=2), record).ok


@pytest.mark.parametrize(
    ("schedule", "grace"),
    [
        ("* * * * *", timedelta(minutes=10)),
        ("0 * * * *", timedelta(minutes=30)),
        ("0 2 * * *", timedelta(hours=12)),
        ("0 2 * * 1", timedelta(hours=12)),
        ("0 2 1 1 *", timedelta(hours=12)),
    ],
)
def test_the_grace_follows_from_the_gaps_of_the_schedule(schedule: str, grace: timedelta) -> None:
    """Half a gap, at least ten minutes and at most half a day."""
    plan = watched(schedule=schedule).schedule
    assert plan
    due = plan.next(NOON)
    assert due
    assert deadline(plan, Record("shop").seen(NOON), NOON) == due + grace


def test_an_irregular_schedule_is_judged_by_the_gap_at_hand() -> None:
    """Nine and ten each day: after the run at ten nothing is due before nine, then within half an hour."""
    record = Record("shop").ended(run("ok", started=datetime(2026, 11, 25, 10, 0, tzinfo=UTC)))
    assert judged(datetime(2026, 11, 26, 9, 32, tzinfo=UTC), record, schedule="0 9,10 * * *").ok
    assert not judged(datetime(2026, 11, 26, 9, 33, tzinfo=UTC), record, schedule="0 9,10 * * *").ok


def test_a_run_that_takes_longer_than_a_gap_makes_nothing_overdue() -> None:
    """Hourly, and each takes three: the next has time enough to end."""
    record = Record("shop").ended(run("ok", seconds=3 * 3600.0))
    assert judged(NOON + timedelta(hours=7), record, schedule="0 * * * *").ok
    assert not judged(NOON + timedelta(hours=8), record, schedule="0 * * * *").ok


def test_a_day_with_a_changed_clock_makes_nothing_overdue() -> None:
    """S2: two in the morning does not exist on that day, and three of the wall is when it is due."""
    zone = ZoneInfo("Europe/Berlin")
    record = Record("shop").ended(run("ok", started=datetime(2026, 3, 28, 2, 30, tzinfo=zone)))
    now = datetime(2026, 3, 29, 14, 0, tzinfo=zone)
    assert judged(now, record, schedule="30 2 * * *").ok
    assert not judged(now + timedelta(hours=3), record, schedule="30 2 * * *").ok


def test_a_misconfigured_volume_is_red_at_once_and_named() -> None:
    """I2: nobody would notice that it is not backed up."""
    health = assess([Watched("bad", None, ("no schedule", "no retention"))], {}, NOON)
    [problem] = health.problems
    assert (problem.kind, problem.volume) == ("misconfigured", "bad")
    assert "no schedule; no retention" in problem.text
    assert health.protected == 0


def test_a_clock_that_went_back_is_red() -> None:
    """S1: as long as a success lies in the future no age means anything, and nothing would be overdue."""
    record = Record("shop").ended(run("ok", started=NOON + timedelta(days=400)))
    [problem] = judged(NOON, record).problems
    assert problem.kind == "clock"
    assert "2026-11-25 12:00" in problem.text
    assert "2027-12-30 12:00" in problem.text


def test_a_clock_that_is_set_back_a_little_is_well() -> None:
    """S1: that is what keeping the time does."""
    record = Record("shop").ended(run("ok", started=NOON + timedelta(minutes=4)))
    assert judged(NOON, record).ok


def test_a_clock_that_jumped_far_ahead_is_red() -> None:
    """S1: everything is overdue then, as far as anybody can tell."""
    record = Record("shop").ended(run("ok"))
    assert not judged(NOON + timedelta(days=4000), record).ok


def test_a_ledger_that_cannot_be_kept_is_red() -> None:
    """What is not written down cannot be judged later."""
    [problem] = assess([], {}, NOON, [unwritten("the ledger cannot be used")]).problems
    assert (problem.kind, problem.text) == ("ledger", "the ledger cannot be used")


def test_containers_that_stayed_down_are_red() -> None:
    """E5: the application comes first; the error says which, and the hint what to do."""
    error = QuiesceFailed("container shop-db could not be unpaused", hint="docker unpause shop-db")
    [problem] = assess([], {}, NOON, [stuck(error)]).problems
    assert (problem.kind, problem.text, problem.hint) == ("stuck", error.message, error.hint)


def test_without_volumes_all_is_well() -> None:
    """Nothing was promised."""
    assert assess([], {}, NOON).ok


def test_records_of_volumes_that_are_gone_are_not_judged() -> None:
    """A volume that nobody wants to be backed up any more is not overdue."""
    assert assess([], {"gone": Record("gone").seen(NOON)}, NOON + timedelta(days=100)).ok
