"""How sizes and times read to a person."""

from __future__ import annotations

from datetime import datetime

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def size(count_bytes: float) -> str:
    """Bytes in binary units, three digits or so: `312 B`, `1.4 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count_bytes < 1000:
            digits = 0 if unit == "B" or count_bytes >= 100 else 1
            return f"{count_bytes:.{digits}f} {unit}"
        count_bytes /= 1024
    return f"{count_bytes:.1f} TiB"


def relative(moment: datetime, now: datetime) -> str:
    """A time as seen from `now`: `3 h ago`, `in 5 min`."""
    seconds = (moment - now).total_seconds()
    text = _amount(abs(seconds))
    return f"in {text}" if seconds > 0 else f"{text} ago"


def when(moment: datetime | None, now: datetime) -> str:
    """A time in both ways, the local clock first: `2026-11-23 14:30:00 (3 h ago)`; `-` for none."""
    if moment is None:
        return "-"
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({relative(moment, now)})"


def _amount(seconds: float) -> str:
    unit, length = next((each for each in _UNITS if seconds >= each[1]), _UNITS[-1])
    return f"{int(seconds // length)} {unit}"
