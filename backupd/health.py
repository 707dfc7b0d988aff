"""Whether every protected volume is backed up as its schedule promises; if not, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, get_args

from backupd.cron import Schedule
from backupd.errors import BackupdError
from backupd.record import Record

Kind = Literal["overdue", "misconfigured", "clock", "ledger", "stuck", "starting"]
KINDS: tuple[Kind, ...] = get_args(Kind)

GRACE_MIN = timedelta(minutes=10)
GRACE_MAX = timedelta(hours=12)
CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far in the future a success may lie before the clock is not believed: clocks are set back a little."""


@dataclass(frozen=True)
class Watched:
    """A volume that somebody wants to be backed up: when, or why it cannot be (`errors`).

    `ping` is the address that hears of its runs.
    """

    volume: str
    schedule: Schedule | None
    errors: tuple[str, ...] = ()
    ping: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Problem:
    """One reason why not all is well, for a person: what, since when, why, and what to do (`hint`)."""

    kind: Kind
    volume: str | None
    text: str
    hint: str
    since: datetime | None = None

    @property
    def name(self) -> str:
        """What it is, whatever its text says meanwhile."""
        return f"{self.kind}:{self.volume or ''}"


@dataclass(frozen=True)
class Health:
    """How many volumes are protected, and all that is wrong; `deadlines` is when each becomes overdue."""

    protected: int
    problems: tuple[Problem, ...]
    deadlines: Mapping[str, datetime]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The judgement as JSON values."""
        return {
            "ok": self.ok,
            "protected": self.protected,
            "problems": [
                {
                    "kind": problem.kind,
                    "volume": problem.volume,
                    "since": problem.since.isoformat() if problem.since else None,
                    "text": problem.text,
                    "hint": problem.hint,
                }
                for problem in self.problems
            ],
        }


def assess(
    watched: Iterable[Watched], records: Mapping[str, Record], now: datetime, others: Iterable[Problem] = ()
) -> Health:
    """Judge the volumes at `now`, an aware time in the time zone of the schedules.

    A volume is overdue when its last success, or for a new one the moment when it was seen first, is so old
    that the schedule point after it and the grace for that point have both passed. Failed runs are no problem
    by themselves before that. `others` are problems that are known already.
    """
    problems = list(others)
    deadlines: dict[str, datetime] = {}
    protected = 0
    for each in watched:
        if each.errors:
            problems.append(_misconfigured(each))
        if each.schedule is None:
            continue
        protected += 1
        record = records.get(each.volume) or Record(each.volume)
        limit = deadline(each.schedule, record, now)
        if limit is not None:
            deadlines[each.volume] = limit
            if limit < now:
                problems.append(_overdue(record, each.schedule, now))
    problems += _clock(records.values(), now)
    return Health(protected, tuple(problems), deadlines)


def deadline(schedule: Schedule, record: Record, now: datetime) -> datetime | None:
    """When the volume becomes overdue unless a backup succeeds; None where the schedule has no next point.

    The grace is half of what lies between two points, at least 10 minutes and at most 12 hours, and twice as
    long as the last success took.
    """
    due, after = _points(schedule, _since(record, now))
    if due is None:
        return None
    half = (after - due) / 2 if after else GRACE_MAX
    took = timedelta(seconds=record.success.seconds) if record.success else timedelta(0)
    return due + min(max(half, GRACE_MIN), GRACE_MAX) + 2 * took


def starting() -> Health:
    """The judgement before the volumes have been listed."""
    text = "the daemon has not listed the volumes yet"
    hint = "wait a moment; if it lasts, see whether the engine answers: `docker info`"
    return Health(0, (Problem("starting", None, text, hint),), {})


def unwritten(trouble: str) -> Problem:
    """The ledger cannot be written: what is not written down cannot be judged later."""
    return Problem("ledger", None, trouble, "make room in the state directory, and make it writable")


def stuck(error: BackupdError) -> Problem:
    """Containers that backupd has stopped or paused could not be brought back."""
    return Problem("stuck", None, error.message, error.hint or "see `docker ps -a`, and the daemon's log")


def ago(moment: datetime, now: datetime) -> str:
    """How long a moment lies back, for people: `3 days`."""
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "less than a minute"


@lru_cache(maxsize=4096)
def _points(schedule: Schedule, since: datetime) -> tuple[datetime | None, datetime | None]:
    """The next two points; remembered, for this is asked over and over."""
    due = schedule.next(since)
    return due, schedule.next(due) if due else None


def _since(record: Record, now: datetime) -> datetime:
    moment = record.success.started if record.success else record.first_seen
    return (moment or now).astimezone(now.tzinfo)


def _overdue(record: Record, schedule: Schedule, now: datetime) -> Problem:
    volume, since = record.volume, _since(record, now)
    due, _ = _points(schedule, since)
    last = (
        f"the last one began {since:%Y-%m-%d %H:%M}, {ago(since, now)} ago" if record.success else "never yet"
    )
    text = f"no backup as the schedule {schedule.expression} promises; {last}"
    if due is not None:
        text += f", the next was due {due:%Y-%m-%d %H:%M}"
    failure = record.failure
    if failure and record.failing_since:
        first = record.failing_since.astimezone(now.tzinfo)
        text += f"; failing since {first:%Y-%m-%d %H:%M}: {failure.error}"
        return Problem("overdue", volume, text, failure.hint or _TRY.format(volume=volume), due)
    if record.last_start and record.last_start > since:
        text += (
            f"; a run began {record.last_start.astimezone(now.tzinfo):%Y-%m-%d %H:%M} and has not succeeded"
        )
    return Problem("overdue", volume, text, _TRY.format(volume=volume), due)


def _misconfigured(watched: Watched) -> Problem:
    return Problem(
        "misconfigured",
        watched.volume,
        f"not backed up: {'; '.join(watched.errors)}",
        "correct the label or rule; `backupd volumes` shows what holds for each volume",
    )


def _clock(records: Iterable[Record], now: datetime) -> Iterator[Problem]:
    """S1: a last success in the future makes every age wrong: the clock was wrong then, or is now."""
    successes = [record.success for record in records if record.success]
    latest = max((success.started for success in successes), default=now)
    if latest - now > CLOCK_TOLERANCE:
        yield Problem(
            "clock",
            None,
            f"the clock cannot be believed: it shows {now:%Y-%m-%d %H:%M %Z}, and a backup began "
            f"{latest.astimezone(now.tzinfo):%Y-%m-%d %H:%M}",
            "set the clock (`timedatectl` shows whether it is kept right); if it is right now but was "
            "wrong then, forget the snapshots from the future: `backupd forget --snapshot`",
        )


_TRY = "see what stops it: `backupd backup {volume}`, and the daemon's log"
