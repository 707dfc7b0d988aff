"""Which snapshots of a volume to keep: a policy, and what it comes to, with the reasons."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Literal

from backupd.errors import ConfigError

GAP_LIMIT = timedelta(days=35)
"""Two successes further apart than this say nothing of the time between them: the machine was off, or its
clock has jumped. `within` does not count such a gap, nor one that goes backwards."""

_HINT = 'write it as "last=3 daily=7 weekly=4 monthly=12", and leave out what is not wanted'
_HINT_WITHIN = "write it as within=36h, within=30d or within=8w"
_UNITS = {"w": timedelta(weeks=1), "d": timedelta(days=1), "h": timedelta(hours=1)}
_PERIODS = {
    # The offset tells the two hours apart that the clock shows twice in autumn.
    "hourly": "%Y-%m-%d %H:00 %z",
    "daily": "%Y-%m-%d",
    "weekly": "%G-W%V",
    "monthly": "%Y-%m",
    "yearly": "%Y",
}


@dataclass(frozen=True)
class Retention:
    """The newest `last` snapshots, and the newest of each of so many hours, days, weeks, months and years.

    Only periods that have a snapshot count. `within` keeps all that are not older than that, as seen from the
    newest one. Keeps one snapshot at least: a retention of nothing, or of less, is a ConfigError.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        counts = [getattr(self, name) for name in _COUNTS]
        if min(counts) < 0 or self.within < timedelta(0) or not (max(counts) or self.within):
            raise ConfigError(f'retention "{self}" keeps nothing', hint=_HINT)

    @classmethod
    def parse(cls, text: str) -> Retention:
        """Read `last=3 daily=7 within=30d`; terms are separated by spaces or commas, each is above zero."""
        counts: dict[str, int] = {}
        within = timedelta(0)
        for term in re.split(r"[\s,]+", text.strip(" \t\n,")):
            name, _, number = term.partition("=")
            if name not in _NAMES:
                raise ConfigError(f'retention "{text}": unknown term "{term}"', hint=_nearest(name))
            if name in counts or (name == "within" and within):
                raise ConfigError(f'retention "{text}": {name} is given twice', hint=_HINT)
            if name == "within":
                within = _duration(number, text)
            elif re.fullmatch(r"0*[1-9][0-9]{0,5}", number):
                counts[name] = int(number)
            else:
                raise ConfigError(f'retention "{text}": {name} must be a number above zero', hint=_HINT)
        return cls(**counts, within=within)

    def __str__(self) -> str:
        terms = [f"{name}={getattr(self, name)}" for name in _COUNTS if getattr(self, name)]
        return " ".join([*terms, *([f"within={_short(self.within)}"] if self.within else [])])


@dataclass(frozen=True)
class Candidate:
    """A snapshot, as far as retention is concerned.

    `snapshot` is its id, which begins with the time. `parent` had the last id when this one was begun, later
    than its own if the clock went back. A `collapsed` one has lost nearly all that the one before held.
    """

    snapshot: str
    taken: datetime
    parent: str | None = None
    state: Literal["good", "fuzzy", "collapsed"] = "good"


@dataclass(frozen=True)
class Decision:
    """Whether a snapshot is kept, and why."""

    snapshot: str
    keep: bool
    reasons: tuple[str, ...]


def decide(
    snapshots: Sequence[Candidate], policy: Retention, now: datetime, *, zone: tzinfo
) -> list[Decision]:
    """Decide about each snapshot of one volume, in the order of their success, the latest first.

    Follows restic: the newest of each period is kept, periods are those of the calendar in `zone`, only those
    with a snapshot count, and where a count is not used up the oldest snapshot is kept as well. Beyond that:

    - Good snapshots are counted among themselves, and once more together with fuzzy ones; what either count
      keeps is kept. So a fuzzy one never takes a good one's place, and goes when better ones have come.
    - While one is collapsed, all are kept.
    - One from the future (of `now`) is kept and not counted.
    - Time alone forgets nothing: `now` does nothing else, and the newest good one is always kept.
    """
    latest_first = in_order(snapshots, now)[::-1]
    if frozen := [each.snapshot for each in latest_first if each.state == "collapsed"]:
        reason = f"frozen: {frozen[0]} collapsed"
        return [Decision(each.snapshot, True, (reason,)) for each in latest_first]
    counted = [each for each in latest_first if each.taken <= now]
    good = _reasons([each for each in counted if each.state == "good"], policy, zone)
    both = _reasons(counted, policy, zone)
    return [
        _decision(each, good.get(each.snapshot) or both.get(each.snapshot), policy, now)
        for each in latest_first
    ]


def in_order(snapshots: Sequence[Candidate], now: datetime) -> list[Candidate]:
    """In the order in which they succeeded, also where the clock went back in between.

    One that has a parent with a later id was taken after it. Where that parent is itself from the future the
    clock was wrong then, and ids tell the order of all others.
    """
    horizon = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}~"
    return sorted(snapshots, key=lambda each: _place(each, horizon))


def _place(each: Candidate, horizon: str) -> tuple[str, bool, str]:
    late = each.parent is not None and each.snapshot < each.parent < horizon
    return (each.parent if each.parent and late else each.snapshot), late, each.snapshot


def _decision(each: Candidate, reasons: Sequence[str] | None, policy: Retention, now: datetime) -> Decision:
    if each.taken > now:
        return Decision(each.snapshot, True, ("from the future",))
    if not reasons:
        return Decision(each.snapshot, False, (f"not kept by {policy}",))
    return Decision(each.snapshot, True, tuple(reasons))


def _reasons(
    latest_first: Sequence[Candidate], policy: Retention, zone: tzinfo
) -> Mapping[str, Sequence[str]]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for number, each in enumerate(latest_first[: policy.last], 1):
        reasons[each.snapshot].append(f"last {number} of {policy.last}")
    for term, form in _PERIODS.items():
        for each, reason in _periods(latest_first, term, form, getattr(policy, term), zone):
            reasons[each.snapshot].append(reason)
    for each in _within(latest_first, policy.within):
        reasons[each.snapshot].append(f"within {_short(policy.within)}")
    return reasons


def _periods(
    latest_first: Sequence[Candidate], term: str, form: str, count: int, zone: tzinfo
) -> Iterator[tuple[Candidate, str]]:
    seen: set[str] = set()
    for each in latest_first:
        if len(seen) == count:
            return
        period = each.taken.astimezone(zone).strftime(form)
        if period not in seen:
            seen.add(period)
            yield each, f"{term} {period}"
        elif each is latest_first[-1]:
            yield each, f"oldest {term}"


def _within(latest_first: Sequence[Candidate], within: timedelta) -> Iterator[Candidate]:
    """Those that are younger than `within` when the latest was taken, by the time between successes."""
    age = timedelta(0)
    if latest_first and within:
        yield latest_first[0]
    for later, each in pairwise(latest_first):
        gap = later.taken - each.taken
        if timedelta(0) < gap <= GAP_LIMIT:
            age += gap
        if age >= within:
            return
        yield each


def _duration(number: str, text: str) -> timedelta:
    match = re.fullmatch(r"(0*[1-9][0-9]{0,4})([hdw])", number)
    if not match:
        raise ConfigError(f'retention "{text}": within must be a time above zero', hint=_HINT_WITHIN)
    return int(match[1]) * _UNITS[match[2]]


def _short(duration: timedelta) -> str:
    unit = next((unit for unit, length in _UNITS.items() if duration % length == timedelta(0)), None)
    return f"{duration // _UNITS[unit]}{unit}" if unit else str(duration)


def _nearest(name: str) -> str:
    found = difflib.get_close_matches(name, _NAMES, n=1)
    return f'did you mean "{found[0]}"?' if found else _HINT


_NAMES = tuple(field.name for field in fields(Retention))
_COUNTS = tuple(name for name in _NAMES if name != "within")
