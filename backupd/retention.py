"""How many snapshots of a volume to keep."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, fields

from backupd.errors import ConfigError

_HINT = 'write it as "last=3 daily=7 weekly=4 monthly=12", and leave out what is not wanted'


@dataclass(frozen=True)
class Retention:
    """The newest `last` snapshots, and the newest of each of so many hours, days, weeks, months and years.

    Keeps one snapshot at least: a retention of nothing, or of less, is a ConfigError.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    def __post_init__(self) -> None:
        counts = [getattr(self, name) for name in _NAMES]
        if min(counts) < 0 or max(counts) == 0:
            raise ConfigError(f'retention "{self}" keeps nothing', hint=_HINT)

    @classmethod
    def parse(cls, text: str) -> Retention:
        """Read `last=3 daily=7`; terms are separated by spaces or commas, each is a number above zero."""
        counts: dict[str, int] = {}
        for term in re.split(r"[\s,]+", text.strip(" \t\n,")):
            name, _, number = term.partition("=")
            if name not in _NAMES:
                raise ConfigError(f'retention "{text}": unknown term "{term}"', hint=_nearest(name))
            if name in counts:
                raise ConfigError(f'retention "{text}": {name} is given twice', hint=_HINT)
            if not re.fullmatch(r"0*[1-9][0-9]{0,5}", number):
                raise ConfigError(f'retention "{text}": {name} must be a number above zero', hint=_HINT)
            counts[name] = int(number)
        return cls(**counts)

    def __str__(self) -> str:
        return " ".join(f"{name}={getattr(self, name)}" for name in _NAMES if getattr(self, name))


def _nearest(name: str) -> str:
    found = difflib.get_close_matches(name, _NAMES, n=1)
    return f'did you mean "{found[0]}"?' if found else _HINT


_NAMES = tuple(field.name for field in fields(Retention))
