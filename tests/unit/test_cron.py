from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backupd import cron
from backupd.errors import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "Asia/Kathmandu")


def following(expression: str, after: datetime, count: int) -> list[str]:
    """The next times at which an expression fires, as text."""
    schedule = cron.parse(expression, seed="db1/pgdata")
    found = []
    for _ in range(count):
        moment = schedule.next(after)
        assert moment is not None
        found.append(moment.isoformat())
        after = moment
    return found


def test_five_fields_start_at_second_zero() -> None:
    """Five fields are minute, hour, day, month and weekday, in the zone of the moment asked from."""
    assert following("30 2 * * *", datetime(2026, 5, 1, 3, tzinfo=BERLIN), 1) == ["2026-05-02T02:30:00+02:00"]


def test_six_fields_begin_with_the_second() -> None:
    """A sixth field in front is the second."""
    assert following("*/5 * * * * *", datetime(2026, 5, 1, tzinfo=UTC), 2) == [
        "2026-05-01T00:00:05+00:00",
        "2026-05-01T00:00:10+00:00",
    ]


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *", "*/30 2 * * *"])
def test_time_in_the_gap_of_spring_runs_once_when_the_gap_is_over(expression: str) -> None:
    """S2: 02:30 does not exist on 2026-03-29 in Berlin; it runs once, at 03:00, and the next day as ever."""
    first, second = following(expression, datetime(2026, 3, 28, 12, tzinfo=BERLIN), 2)
    assert first == "2026-03-29T03:00:00+02:00"
    assert second.startswith("2026-03-30T02:")


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *"])
def test_time_in_the_repeated_hour_of_autumn_runs_once(expression: str) -> None:
    """S2: 02:30 comes twice on 2026-10-25 in Berlin; the first one runs."""
    assert following(expression, datetime(2026, 10, 24, 12, tzinfo=BERLIN), 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]


def test_repeated_hour_is_not_run_again_when_asked_from_inside_it() -> None:
    """S2: a daemon that starts during the second 02:10 does not find a 02:30 of the past, nor of that day."""
    inside = datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=BERLIN)
    assert following("30 2 * * *", inside, 1) == ["2026-10-26T02:30:00+01:00"]
    previous = cron.parse("30 2 * * *", seed="").previous(inside)
    assert previous is not None
    assert previous.isoformat() == "2026-10-25T02:30:00+02:00"


def test_hourly_schedule_runs_in_both_of_the_repeated_hours() -> None:
    """A schedule of every hour keeps to elapsed time."""
    assert following("30 * * * *", datetime(2026, 10, 25, 2, tzinfo=BERLIN), 3) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:30:00+01:00",
    ]


def test_previous_time_finds_what_was_missed() -> None:
    """S3: the last time before now, for the catch-up after a start."""
    previous = cron.parse("0 4 * * *", seed="").previous(datetime(2026, 5, 1, 3, tzinfo=BERLIN))
    assert previous == datetime(2026, 4, 30, 4, tzinfo=BERLIN)


@pytest.mark.parametrize("expression", ["@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@midnight"])
def test_macro_has_a_time_that_belongs_to_the_seed(expression: str) -> None:
    """The same seed gives the same time in every process; many seeds spread."""
    assert cron.parse(expression, seed="db1/a") == cron.parse(expression, seed="db1/a")
    assert len({cron.parse(expression, seed=f"db1/{number}").fields for number in range(50)}) > 20


def test_jitter_of_a_seed_never_changes() -> None:
    """Schedules must not move when backupd is updated: these are the values of version 1."""
    assert cron.parse("@daily", seed="db1/pgdata").fields == "0 15 0 * * *"
    assert cron.parse("H/10 H(6-9) * * *", seed="db1/pgdata").fields == "0 5-59/10 6 * * *"


@given(seed=st.text(), step=st.integers(2, 40))
def test_jittered_steps_keep_their_distance_and_range(seed: str, step: int) -> None:
    """`H(10-50)/n` fires at every n-th minute from a minute of its own within the range."""
    schedule = cron.parse(f"H(10-50)/{step} 0 1 1 *", seed=seed)
    first = schedule.next(datetime(2026, 1, 1, tzinfo=UTC) - timedelta(seconds=1))
    assert first is not None
    assert 10 <= first.minute < 10 + step
    second = schedule.next(first)
    assert second is not None
    assert second - first == timedelta(minutes=step) or second.year == 2027


@pytest.mark.parametrize(
    "expression",
    [
        *("", "* * * *", "* * * * * * *", "61 * * * *", "a b c d e", "@reboot", "9" * 5000 + " * * * *"),
        *("H(3-70) * * * *", "H(9-3) * * * *", "H/0 * * * *"),
        *("31 2 30 2 *", "0 0 31 4,6 *"),
    ],
)
def test_bad_expression_is_refused_by_name(expression: str) -> None:
    """I2: what is no cron expression, or never fires, is an error that names it."""
    with pytest.raises(ConfigError) as caught:
        cron.parse(expression, seed="")
    assert f'"{expression}"' in caught.value.message
    assert caught.value.hint


def test_moment_without_a_zone_is_refused() -> None:
    """A schedule cannot guess whose clock is meant."""
    with pytest.raises(ValueError, match="time zone"):
        cron.parse("@daily", seed="").next(datetime(2026, 1, 1))


FIELD = {
    "second": st.sampled_from(["0", "0", "15", "*/20"]),
    "minute": st.sampled_from(["*", "0", "30", "*/7", "5,50", "H", "H/15"]),
    "hour": st.sampled_from(["*", "0", "2", "3", "*/2", "1-3", "H"]),
    "day": st.sampled_from(["*", "*", "1", "L", "25-31", "H"]),
    "weekday": st.sampled_from(["*", "*", "0", "5L", "2#1", "1-5"]),
}


@given(
    fields=st.fixed_dictionaries(FIELD),
    zone=st.sampled_from(ZONES),
    instant=st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
    | st.datetimes(datetime(2026, 3, 28, 20), datetime(2026, 3, 29, 4), timezones=st.just(UTC))
    | st.datetimes(datetime(2026, 10, 24, 20), datetime(2026, 10, 25, 4), timezones=st.just(UTC)),
)
def test_next_is_later_and_is_the_one_before_what_follows(
    fields: dict[str, str], zone: str, instant: datetime
) -> None:
    """next() is strictly later, previous() strictly earlier, and they are each other's inverse."""
    schedule = cron.parse("{second} {minute} {hour} {day} * {weekday}".format(**fields), seed="db1/v")
    after = instant.astimezone(ZoneInfo(zone))
    coming, past = schedule.next(after), schedule.previous(after)
    assume(coming is not None and past is not None)
    assert coming is not None
    assert past is not None
    assert past.astimezone(UTC) < instant < coming.astimezone(UTC)
    later = coming.astimezone(UTC) + timedelta(seconds=1)
    assert in_utc(schedule.previous(later.astimezone(after.tzinfo))) == in_utc(coming)
    earlier = past.astimezone(UTC) - timedelta(seconds=1)
    assert in_utc(schedule.next(earlier.astimezone(after.tzinfo))) == in_utc(past)


def in_utc(moment: datetime | None) -> datetime | None:
    """Moments in one zone compare by their wall time only; in UTC they compare as moments."""
    return moment and moment.astimezone(UTC)
