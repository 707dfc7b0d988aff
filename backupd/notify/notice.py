"""A message that a person can act on: which volume, since when, why, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from backupd import health

Kind = health.Kind | Literal["failed", "degraded", "collapsed", "damaged", "recovered", "gaps", "test"]


@dataclass(frozen=True)
class Notice:
    """One message. `since` is when what it tells of began, `hint` what to do; no secrets are in it."""

    kind: Kind
    host: str
    at: datetime
    subject: str
    text: str
    volume: str | None = None
    since: datetime | None = None
    hint: str | None = None

    @property
    def title(self) -> str:
        """One line."""
        return f"backupd on {self.host}: {self.subject}"

    @property
    def body(self) -> str:
        """All of it, for people."""
        lines = [self.text]
        if self.since:
            lines.append(f"Since: {self.since:%Y-%m-%d %H:%M %Z}")
        if self.hint:
            lines.append(f"What to do: {self.hint}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        return {
            "kind": self.kind,
            "host": self.host,
            "volume": self.volume,
            "at": _timestamp(self.at),
            "since": _timestamp(self.since) if self.since else None,
            "title": self.title,
            "text": self.text,
            "hint": self.hint,
        }


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
