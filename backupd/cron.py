"""When a cron expression fires: five or six fields, @macros, and `H` for a time of the volume's own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from cronsim import CronSim, CronSimError

from backupd.errors import ConfigError

MACROS = {
    "@hourly": "H * * * *",
    "@daily": "H H * * *",
    "@midnight": "H H(0-2) * * *",
    "@weekly": "H H * * H",
    "@monthly": "H H H * *",
    "@yearly": "H H H H *",
}

_HINT = f"five or six cron fields, or one of {', '.join(MACROS)}"
# second, minute, hour, day of month (one that every month has), month, day of week
_RANGES = ((0, 59), (0, 59), (0, 23), (1, 28), (1, 12), (0, 6))
_JITTER = re.compile(r"H(?:\((?P<first>\d{1,2})-(?P<last>\d{1,2})\))?(?:/(?P<step>\d{1,2}))?", re.IGNORECASE)


@lru_cache(maxsize=4096)
def parse(expression: str, *, seed: str, jitter: timedelta = timedelta(0)) -> Schedule:
    """Understand a cron expression; the same seed gives `H` and the macros the same time, always.

    Every time comes later by a part of `jitter`, in whole seconds, that belongs to the seed.
    Raises ConfigError naming the expression if it is malformed or can never fire.
    """
    fields = MACROS.get(expression.strip().lower(), expression).split()
    if len(fields) not in (5, 6):
        raise ConfigError(f'"{expression}" is no cron expression', hint=_HINT)
    if len(fields) == 5:
        fields.insert(0, "0")
    delay = _number(seed, "jitter") % max(1, int(jitter.total_seconds()))
    schedule = Schedule(expression, " ".join(_settle(expression, fields, seed)), timedelta(seconds=delay))
    _check(schedule)
    return schedule


@dataclass(frozen=True)
class Schedule:
    """The times at which an expression fires, in the time zone of the moment that one asks from.

    A schedule that names hours follows the clock on the wall: a time that the clock skips in spring runs
    once as soon as the gap is over, and a time that it shows twice in autumn runs the first time. One that
    runs every hour follows elapsed time and has no gap and no repetition.
    """

    expression: str
    fields: str
    """Second, minute, hour, day, month and weekday, with every `H` replaced."""
    delay: timedelta = timedelta(0)
    """How much later than the expression says."""

    def next(self, after: datetime) -> datetime | None:
        """The first time strictly after an aware moment, or None if there is none within fifty years."""
        start = _later(after, -self.delay)
        for moment in self._moments(start, reverse=False):
            if moment.astimezone(UTC) > start.astimezone(UTC):
                return _later(moment, self.delay)
        return None

    def previous(self, before: datetime) -> datetime | None:
        """The last time strictly before an aware moment, or None if there is none within fifty years."""
        start = _later(before, -self.delay)
        for moment in self._moments(start, reverse=True):
            if moment.astimezone(UTC) < start.astimezone(UTC):
                return _later(moment, self.delay)
        return None

    def _moments(self, start: datetime, *, reverse: bool) -> Iterator[datetime]:
        zone = start.tzinfo
        if zone is None:
            raise ValueError("a schedule needs a moment with a time zone")
        if self.fields.split()[2] == "*":
            moments = CronSim(self.fields, start, reverse=reverse)
            return (moment.astimezone(UTC).astimezone(zone) for moment in moments)
        wall = start.replace(tzinfo=None)
        if reverse:
            wall += _repeated(start)
        return (_on_the_wall(moment, zone) for moment in CronSim(self.fields, wall, reverse=reverse))


def _settle(expression: str, fields: list[str], seed: str) -> Iterator[str]:
    """Replace every `H` by a number derived from the seed, as Jenkins does."""
    for position, field in enumerate(fields):
        number = _number(seed, position)
        yield ",".join(_settle_term(expression, term, _RANGES[position], number) for term in field.split(","))


def _number(seed: str, purpose: object) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{purpose}".encode()).digest()[:8], "big")


def _settle_term(expression: str, term: str, limits: tuple[int, int], number: int) -> str:
    jitter = _JITTER.fullmatch(term)
    if jitter is None:
        return term
    first, last = int(jitter["first"] or limits[0]), int(jitter["last"] or limits[1])
    if not limits[0] <= first <= last <= limits[1]:
        raise ConfigError(f'"{expression}" is no cron expression: {term} is out of range', hint=_HINT)
    width = last - first + 1
    if jitter["step"] is None:
        return str(first + number % width)
    step = int(jitter["step"])
    return f"{first + number % max(1, min(step, width))}-{last}/{step}"


def _check(schedule: Schedule) -> None:
    try:
        moments = CronSim(schedule.fields, datetime(2024, 1, 1))
    except (CronSimError, ValueError) as error:
        reason = str(error)[:1].lower() + str(error)[1:]
        message = f'"{schedule.expression}" never fires or is no cron expression: {reason}'
        raise ConfigError(message, hint=_HINT) from error
    if next(moments, None) is None:
        raise ConfigError(f'"{schedule.expression}" never fires', hint=_HINT)


def _later(moment: datetime, delay: timedelta) -> datetime:
    """As much time after a moment as the clock on the wall may not show: hours are repeated, and left out."""
    return (moment.astimezone(UTC) + delay).astimezone(moment.tzinfo) if delay else moment


def _repeated(moment: datetime) -> timedelta:
    """How far the clock goes back at a moment whose wall time comes twice; else nothing."""
    first, second = moment.replace(fold=0).utcoffset(), moment.replace(fold=1).utcoffset()
    return max(timedelta(0), (first or timedelta(0)) - (second or timedelta(0)))


def _on_the_wall(wall: datetime, zone: tzinfo) -> datetime:
    """The first moment at which the clock shows that time, or the end of the gap that swallows it."""
    moment = wall.replace(tzinfo=zone)
    while (shown := moment.astimezone(UTC).astimezone(zone)).replace(tzinfo=None) != wall:
        wall = wall.replace(second=0) + timedelta(minutes=1)
        moment = wall.replace(tzinfo=zone)
    return shown
