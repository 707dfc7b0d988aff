"""What a daemon is doing, as a value that travels: the part of `GET /status` that the daemon itself knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from backupd.record import Record


@dataclass(frozen=True)
class Daemon:
    """Who answers: its process, its engine (`engine_away`: it does not answer at the moment), its storage."""

    pid: int
    version: str
    since: datetime
    instance: str
    host: str
    engine: str
    engine_away: bool
    storage: str


@dataclass(frozen=True)
class Working:
    """A volume that is saved now; `bytes` of tar are through, of `bytes_total` where that is known."""

    volume: str
    group: str
    phase: str
    started: datetime
    seconds: float
    bytes: int
    bytes_total: int | None


@dataclass(frozen=True)
class Waiting:
    """A turn that waits, and the volumes it will save."""

    name: str
    volumes: tuple[str, ...]
    since: datetime


@dataclass(frozen=True)
class Last:
    """How a volume's last run ended: when a success began, or when a failure was noticed."""

    outcome: str
    at: datetime
    seconds: float | None
    snapshot: str | None
    error: str | None
    hint: str | None

    @classmethod
    def of(cls, record: Record) -> Last | None:
        """The same from what is remembered of the volume; None where it has had no run."""
        success, failure = record.success, record.failure
        if failure and (success is None or failure.at > success.started):
            made = success.snapshot if success and failure.outcome == "degraded" else None
            return cls(failure.outcome, failure.at, None, made, failure.error, failure.hint)
        if success is None:
            return None
        return cls(success.outcome, success.started, success.seconds, success.snapshot, None, None)


@dataclass(frozen=True)
class Status:
    """All of it at one time. `next` and `last` are by volume, `upkeep` by what is done.

    `skipped` counts the schedule points of a volume at which its last run still went on or waited.
    """

    daemon: Daemon
    running: tuple[Working, ...]
    waiting: tuple[Waiting, ...]
    next: Mapping[str, datetime]
    last: Mapping[str, Last]
    skipped: Mapping[str, int]
    upkeep: Mapping[str, datetime]

    def as_json(self) -> dict[str, Any]:
        """The same in what JSON has; times as ISO 8601."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Status:
        """The status that `as_json` gave; what else the object holds is left aside.

        Raises KeyError, TypeError or ValueError where it is something else.
        """
        return cls(
            daemon=Daemon(**_timed(value["daemon"], "since")),
            running=tuple(Working(**_timed(each, "started")) for each in value["running"]),
            waiting=tuple(
                Waiting(**_timed(each, "since") | {"volumes": tuple(each["volumes"])})
                for each in value["waiting"]
            ),
            next={name: datetime.fromisoformat(time) for name, time in value["next"].items()},
            last={name: Last(**_timed(each, "at")) for name, each in value["last"].items()},
            skipped={name: int(count) for name, count in value["skipped"].items()},
            upkeep={name: datetime.fromisoformat(time) for name, time in value["upkeep"].items()},
        )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _timed(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**value, name: datetime.fromisoformat(value[name])}
