"""How long something lasts, as people write it."""

from __future__ import annotations

import re
from datetime import timedelta

from backupd.errors import ConfigError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse(text: str) -> timedelta:
    """The time that `90s`, `30m`, `24h` or `7d` says; ConfigError for anything else."""
    match = re.fullmatch(r"([0-9]{1,6})\s*([smhd])", text.strip().lower())
    if match is None:
        raise ConfigError('should be a number and a unit, such as "90s", "30m", "24h" or "7d"')
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
