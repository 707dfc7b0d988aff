"""Which snapshots are kept: tables of what a policy comes to, and what holds for every policy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import ConfigError
from backupd.retention import Candidate, Decision, Retention, decide, in_order

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
STATES = ("good", "fuzzy", "collapsed")
BERLIN = ZoneInfo("Europe/Berlin")


def name(time: str) -> str:
    """The id of a snapshot of that time."""
    return f"{datetime.fromisoformat(time):%Y%m%dT%H%M%SZ}-aaaa"


def at(time: str, state: str = "good", parent: str | None = None) -> Candidate:
    """A snapshot of that time."""
    assert state in STATES
    taken = datetime.fromisoformat(time).replace(tzinfo=UTC)
    return Candidate(name(time), taken, parent and name(parent), state)  # type: ignore[arg-type]


def short(text: str) -> str:
    """A text whose ids are replaced by the times that they were made from."""
    text = re.sub(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)00Z-aaaa", r"\1-\2-\3T\4:\5", text)
    return text.replace("T00:00", "")


def table(decisions: Sequence[Decision]) -> str:
    """Decisions as a person would write them down."""
    return "\n".join(
        short(f"{each.snapshot} {'keep' if each.keep else '----'} {', '.join(each.reasons)}")
        for each in decisions
    )


def decided(snapshots: Sequence[Candidate], policy: str, *, now: datetime = NOW) -> str:
    """What a policy comes to, in UTC."""
    return table(decide(snapshots, Retention.parse(policy), now, zone=UTC))


def kept(decisions: Sequence[Decision]) -> set[str]:
    """What is kept."""
    return {short(each.snapshot) for each in decisions if each.keep}


GOLDEN = {
    "last": (
        "last=2",
        ["2026-11-21", "2026-11-22", "2026-11-23"],
        """
        2026-11-23 keep last 1 of 2
        2026-11-22 keep last 2 of 2
        2026-11-21 ---- not kept by last=2
        """,
    ),
    "hourly": (
        "hourly=2",
        ["2026-11-23T12:10", "2026-11-23T13:10", "2026-11-23T14:05", "2026-11-23T14:50"],
        """
        2026-11-23T14:50 keep hourly 2026-11-23 14:00 +0000
        2026-11-23T14:05 ---- not kept by hourly=2
        2026-11-23T13:10 keep hourly 2026-11-23 13:00 +0000
        2026-11-23T12:10 ---- not kept by hourly=2
        """,
    ),
    "daily, only days that have a snapshot": (
        "daily=2",
        ["2026-11-01T02:00", "2026-11-05T02:00", "2026-11-05T14:00", "2026-11-23T02:00"],
        """
        2026-11-23T02:00 keep daily 2026-11-23
        2026-11-05T14:00 keep daily 2026-11-05
        2026-11-05T02:00 ---- not kept by daily=2
        2026-11-01T02:00 ---- not kept by daily=2
        """,
    ),
    "weeks begin on Monday, also over the end of the year": (
        "weekly=2",
        ["2026-01-04", "2025-12-29", "2025-12-28", "2026-01-05"],
        """
        2026-01-05 keep weekly 2026-W02
        2026-01-04 keep weekly 2026-W01
        2025-12-29 ---- not kept by weekly=2
        2025-12-28 ---- not kept by weekly=2
        """,
    ),
    "monthly and yearly": (
        "monthly=2 yearly=2",
        ["2024-06-01", "2025-03-01", "2025-12-31", "2026-10-01", "2026-10-31", "2026-11-01"],
        """
        2026-11-01 keep monthly 2026-11, yearly 2026
        2026-10-31 keep monthly 2026-10
        2026-10-01 ---- not kept by monthly=2 yearly=2
        2025-12-31 keep yearly 2025
        2025-03-01 ---- not kept by monthly=2 yearly=2
        2024-06-01 ---- not kept by monthly=2 yearly=2
        """,
    ),
    "the oldest is kept while a count is not used up": (
        "daily=7",
        ["2026-11-22T02:00", "2026-11-22T14:00", "2026-11-23T02:00"],
        """
        2026-11-23T02:00 keep daily 2026-11-23
        2026-11-22T14:00 keep daily 2026-11-22
        2026-11-22T02:00 keep oldest daily
        """,
    ),
    "within, as seen from the newest": (
        "within=3d",
        ["2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04", "2026-11-05"],
        """
        2026-11-05 keep within 3d
        2026-11-04 keep within 3d
        2026-11-03 keep within 3d
        2026-11-02 ---- not kept by within=3d
        2026-11-01 ---- not kept by within=3d
        """,
    ),
    "terms add up": (
        "last=1 daily=2 weekly=2",
        ["2026-11-15", "2026-11-20", "2026-11-22", "2026-11-23"],
        """
        2026-11-23 keep last 1 of 1, daily 2026-11-23, weekly 2026-W48
        2026-11-22 keep daily 2026-11-22, weekly 2026-W47
        2026-11-20 ---- not kept by last=1 daily=2 weekly=2
        2026-11-15 ---- not kept by last=1 daily=2 weekly=2
        """,
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_what_a_policy_comes_to(case: str) -> None:
    """Restic's rules, with the reason for each line; the order of the input does not matter."""
    policy, times, expected = GOLDEN[case]
    lines = "\n".join(line.strip() for line in expected.strip().splitlines())
    assert decided([at(time) for time in times], policy) == lines


def test_days_are_those_of_the_time_zone() -> None:
    """Half past eleven in the evening in UTC is the next day in Berlin."""
    snapshots = [at("2026-11-22T22:30"), at("2026-11-22T23:30")]
    policy = Retention(daily=1)
    assert kept(decide(snapshots, policy, NOW, zone=UTC)) == {"2026-11-22T23:30"}
    [latest, earlier] = decide(snapshots, policy, NOW, zone=BERLIN)
    assert latest.reasons == ("daily 2026-11-23",)
    assert not earlier.keep


def test_the_hour_that_the_clock_shows_twice_is_two_hours() -> None:
    """S2: 02:30 in summer time and 02:30 in winter time."""
    snapshots = [at("2026-10-25T00:30"), at("2026-10-25T01:30")]
    reasons = [each.reasons for each in decide(snapshots, Retention(hourly=2), NOW, zone=BERLIN)]
    assert reasons == [("hourly 2026-10-25 02:00 +0100",), ("hourly 2026-10-25 02:00 +0200",)]


def test_a_fuzzy_snapshot_takes_no_good_ones_place() -> None:
    """Good ones are counted among themselves; a fuzzy one is kept while it is among the newest of all."""
    snapshots = [
        at("2026-11-20"),
        at("2026-11-21", "fuzzy"),
        at("2026-11-22"),
        at("2026-11-23", "fuzzy"),
        at("2026-11-24", "fuzzy"),
    ]
    assert decided(snapshots, "last=2") == (
        "2026-11-24 keep last 1 of 2\n"
        "2026-11-23 keep last 2 of 2\n"
        "2026-11-22 keep last 1 of 2\n"
        "2026-11-21 ---- not kept by last=2\n"
        "2026-11-20 keep last 2 of 2"
    )


def test_fuzzy_snapshots_alone_are_counted_like_good_ones() -> None:
    """A volume that is never still does not fill the storage."""
    snapshots = [at(f"2026-11-{day}", "fuzzy") for day in range(10, 20)]
    assert kept(decide(snapshots, Retention(last=2), NOW, zone=UTC)) == {"2026-11-18", "2026-11-19"}


def test_a_collapsed_snapshot_freezes_all() -> None:
    """I11: nothing is forgotten, and the reason names the snapshot."""
    snapshots = [at("2026-11-20"), at("2026-11-21"), at("2026-11-22", "collapsed")]
    decisions = decide(snapshots, Retention(last=1), NOW, zone=UTC)
    assert [each.keep for each in decisions] == [True] * 3
    assert {short(reason) for each in decisions for reason in each.reasons} == {
        "frozen: 2026-11-22 collapsed"
    }


MONTH = [f"2026-10-{day:02}" for day in range(1, 32)]


@pytest.mark.parametrize("policy", ["last=3", "hourly=3", "daily=7", "weekly=4", "monthly=12", "within=31d"])
def test_a_clock_that_jumps_forward_ages_nothing(policy: str) -> None:
    """S1: one success ten years ahead costs what any other success costs: one place, not all."""
    before = [at(time) for time in MONTH]
    ahead = at("2036-11-01")
    expected = kept(decide(before, Retention.parse(policy), NOW, zone=UTC))
    found = kept(
        decide([*before, ahead], Retention.parse(policy), datetime(2036, 11, 2, tzinfo=UTC), zone=UTC)
    )
    assert short(ahead.snapshot) in found
    assert len(expected - found) <= 1


def test_snapshots_from_the_future_are_kept_and_take_no_place() -> None:
    """S1: the clock was ahead and is right again; those taken since are counted as if it never had been."""
    ahead = at("2036-11-01")
    before = [at("2026-11-20"), at("2026-11-21")]
    since = [at("2026-11-22", parent="2036-11-01"), at("2026-11-23", parent="2036-11-01")]
    assert decided([*before, ahead, *since], "last=2") == (
        "2036-11-01 keep from the future\n"
        "2026-11-23 keep last 1 of 2\n"
        "2026-11-22 keep last 2 of 2\n"
        "2026-11-21 ---- not kept by last=2\n"
        "2026-11-20 ---- not kept by last=2"
    )
    # Somebody has removed it by its id: those taken since must not count as later than all to come.
    later = at("2026-11-24", parent="2026-11-23")
    assert kept(decide([*before, *since, later], Retention(last=2), NOW, zone=UTC)) == {
        "2026-11-23",
        "2026-11-24",
    }


def test_a_clock_that_goes_back_does_not_cost_the_last_success() -> None:
    """S1: what was taken last is last, though its time is the oldest; those before it are of the future."""
    before = [at("2026-11-20"), at("2026-11-21")]
    back = at("2020-01-01", parent="2026-11-21")
    assert in_order([back, *before], NOW) == [*before, back]
    assert decided([*before, back], "last=1", now=back.taken) == (
        "2026-11-21 keep from the future\n2026-11-20 keep from the future\n2020-01-01 keep last 1 of 1"
    )
    right_again = at("2026-11-22", parent="2026-11-21")
    assert kept(decide([*before, back, right_again], Retention(last=2), NOW, zone=UTC)) == {
        "2026-11-22",
        "2020-01-01",
    }


@pytest.mark.parametrize("policy", ["last=3 daily=7 weekly=4 monthly=12", "within=8w", "hourly=5"])
def test_a_volume_whose_backups_have_stopped_loses_nothing(policy: str) -> None:
    """S1: years later the decision is the same."""
    snapshots = [at(time) for time in MONTH]
    assert decided(snapshots, policy) == decided(snapshots, policy, now=NOW + timedelta(days=4000))


@pytest.mark.parametrize(("text", "hours"), [("36h", 36), ("30d", 720), ("8w", 1344)])
def test_within_is_a_time(text: str, hours: int) -> None:
    """Hours, days, weeks; written as it was read."""
    policy = Retention.parse(f"within={text}")
    assert policy == Retention(within=timedelta(hours=hours))
    assert str(policy) == f"within={text}"


@pytest.mark.parametrize("text", ["within=0d", "within=-1d", "within=30", "within=1y", "within=", "within=d"])
def test_within_of_nothing_or_of_another_form_is_refused(text: str) -> None:
    """I3: the hint shows how it is written."""
    with pytest.raises(ConfigError, match="within must be a time above zero") as caught:
        Retention.parse(text)
    assert "within=30d" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="given twice"):
        Retention.parse("within=1d within=2d")


HOUR = timedelta(hours=1)


@st.composite
def histories(draw: st.DrawFn, states: Sequence[str] = ("good", "fuzzy")) -> list[Candidate]:
    """Snapshots as a host makes them, with a clock that may jump in between."""
    snapshots: list[Candidate] = []
    blank = at("2026-01-01")
    clock = datetime(2026, 1, 1, tzinfo=UTC)
    steps = st.integers(1, 24 * 60) | st.sampled_from([-24 * 400, -5, 24 * 400])
    for number, step in enumerate(draw(st.lists(steps, min_size=1, max_size=40))):
        clock += step * HOUR
        snapshot = f"{clock:%Y%m%dT%H%M%SZ}-{number:04}"
        parent = max((each.snapshot for each in snapshots), default=None)
        state = draw(st.sampled_from(states))
        snapshots.append(replace(blank, snapshot=snapshot, taken=clock, parent=parent, state=state))
    return snapshots


COUNTS = st.integers(0, 9)
POLICIES = st.builds(
    Retention,
    last=COUNTS,
    hourly=COUNTS,
    daily=COUNTS,
    weekly=COUNTS,
    monthly=COUNTS,
    yearly=COUNTS,
    within=st.integers(1, 2000).map(lambda hours: hours * HOUR),
) | st.builds(Retention, last=st.integers(1, 9), daily=COUNTS)
ZONES = st.sampled_from([UTC, BERLIN, ZoneInfo("Pacific/Kiritimati")])


def times(snapshots: Sequence[Candidate]) -> st.SearchStrategy[datetime]:
    """When somebody decides: when one of them was taken, or long after."""
    return st.sampled_from([*(each.taken for each in snapshots), datetime(2050, 1, 1, tzinfo=UTC)])


@given(st.data(), histories(), POLICIES, ZONES)
def test_what_holds_for_every_policy(
    data: st.DataObject, snapshots: list[Candidate], policy: Retention, zone: ZoneInfo
) -> None:
    """I3, S1: the last good one is kept, every one has a reason, and what is kept is kept again."""
    now = data.draw(times(snapshots))
    decisions = decide(snapshots, policy, now, zone=zone)
    found = kept(decisions)
    assert sorted(each.snapshot for each in decisions) == sorted(each.snapshot for each in snapshots)
    assert all(each.reasons for each in decisions)
    ordered = in_order(snapshots, now)
    assert ordered[-1].snapshot in found
    good = [each.snapshot for each in ordered if each.state == "good" and each.taken <= now]
    assert set(good[-1:]) <= found
    rest = [each for each in snapshots if each.snapshot in found]
    assert kept(decide(rest, policy, now, zone=zone)) == found


@given(st.data(), histories(), POLICIES, st.sampled_from(["last", "hourly", "daily", "weekly", "yearly"]))
def test_raising_a_count_never_forgets_more(
    data: st.DataObject, snapshots: list[Candidate], policy: Retention, term: str
) -> None:
    """Nor does a longer `within`."""
    now = data.draw(times(snapshots))
    more = replace(policy, **{term: getattr(policy, term) + data.draw(st.integers(1, 5))})
    longer = replace(policy, within=policy.within + data.draw(st.integers(1, 500)) * HOUR)
    before = kept(decide(snapshots, policy, now, zone=UTC))
    assert before <= kept(decide(snapshots, more, now, zone=UTC))
    assert before <= kept(decide(snapshots, longer, now, zone=UTC))


@given(histories(STATES), POLICIES)
def test_while_one_is_collapsed_nothing_is_forgotten(snapshots: list[Candidate], policy: Retention) -> None:
    """I11: whatever the policy."""
    if any(each.state == "collapsed" for each in snapshots):
        assert all(each.keep for each in decide(snapshots, policy, NOW, zone=UTC))


@given(histories(), POLICIES)
def test_another_success_pushes_out_one_for_each_place_at_most(
    snapshots: list[Candidate], policy: Retention
) -> None:
    """S1: wherever the clock stands, one new success costs no term more than one snapshot, within aside."""
    counts = replace(policy, within=timedelta(0), last=policy.last or 1)
    terms = sum(
        bool(getattr(counts, name)) for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly")
    )
    now = max(each.taken for each in snapshots) + timedelta(days=9999)
    before = kept(decide(snapshots, counts, now, zone=UTC))
    later = replace(snapshots[0], snapshot=f"{now:%Y%m%dT%H%M%SZ}-ffff", taken=now, state="good")
    lost = before - kept(decide([*snapshots, later], counts, now, zone=UTC))
    # Each term is counted twice, and has its oldest one besides.
    assert len(lost) <= 4 * terms


@given(histories(), POLICIES, st.integers(0, 40))
def test_as_a_host_goes_on_its_last_success_is_always_kept(
    made: list[Candidate], policy: Retention, removed: int
) -> None:
    """S1: forgetting after every success, whatever the clock shows; one is removed by hand on the way."""
    snapshots: list[Candidate] = []
    for number, each in enumerate(made):
        parent = max((one.snapshot for one in snapshots), default=None)
        snapshots.append(replace(each, parent=parent, state="good"))
        found = kept(decide(snapshots, policy, each.taken, zone=UTC))
        assert each.snapshot in found
        snapshots = [one for one in snapshots if one.snapshot in found]
        if number == removed:
            snapshots.remove(max(snapshots, key=lambda one: one.snapshot))
