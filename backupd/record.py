"""What is remembered of one volume's runs: a value, and what each event makes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from backupd.runs import Run
from backupd.snapshot import Manifest


@dataclass(frozen=True)
class Success:
    """The newest snapshot, and what taking it was like; times are aware, `seconds` from begin to end."""

    snapshot: str
    started: datetime
    seconds: float
    outcome: str
    consistency: str
    read_bytes: int
    new_bytes: int
    stored_bytes: int
    files: int
    quiesce_seconds: float

    @classmethod
    def of(cls, manifest: Manifest, run: Run | None = None) -> Success:
        """The same from a manifest; the run that made it knows better how it ended and how long it took."""
        seconds = run.seconds if run else (manifest.finished - manifest.started).total_seconds()
        return cls(
            snapshot=manifest.snapshot,
            started=manifest.started,
            seconds=round(seconds, 3),
            outcome=(run and run.outcome) or manifest.outcome,
            consistency=manifest.consistency,
            read_bytes=manifest.bytes.tar,
            new_bytes=manifest.bytes.new,
            stored_bytes=manifest.bytes.stored,
            files=manifest.members.get("file", 0),
            quiesce_seconds=manifest.quiesced.seconds,
        )


@dataclass(frozen=True)
class Failure:
    """A run that ended without a snapshot, or with one and trouble (`degraded`)."""

    at: datetime
    outcome: str
    error: str
    hint: str | None = None


@dataclass(frozen=True)
class Record:
    """All that is remembered of a volume. `failing_since` is the first failure after the last success."""

    volume: str
    first_seen: datetime | None = None
    last_start: datetime | None = None
    success: Success | None = None
    failure: Failure | None = None
    failing_since: datetime | None = None
    verified: datetime | None = None
    runs: Mapping[str, int] = field(default_factory=dict)
    read_bytes: int = 0
    new_bytes: int = 0

    def seen(self, now: datetime) -> Record:
        """It is protected."""
        return self if self.first_seen else replace(self, first_seen=now)

    def begun(self, run: Run) -> Record:
        """A run has begun."""
        return replace(self, last_start=run.started)

    def ended(self, run: Run) -> Record:
        """A run has ended: with a snapshot, without one, or without anybody's fault."""
        counted = replace(self, runs={**self.runs, str(run.outcome): self.runs.get(str(run.outcome), 0) + 1})
        failure = _failure(run)
        if run.manifest is not None:
            success = Success.of(run.manifest, run)
            return replace(
                counted,
                success=success,
                failure=failure or self.failure,
                failing_since=None,
                read_bytes=self.read_bytes + success.read_bytes,
                new_bytes=self.new_bytes + success.new_bytes,
            )
        if failure is not None:
            return replace(counted, failure=failure, failing_since=self.failing_since or failure.at)
        return counted

    def believed(self, newest: Manifest | None) -> Record:
        """The repository says that this is the newest snapshot, or that there is none."""
        if newest is None:
            return replace(self, success=None)
        return replace(self, success=Success.of(newest), failing_since=None)

    def proved(self, at: datetime) -> Record:
        """Its snapshots were found whole."""
        return replace(self, verified=at)

    def encode(self) -> str:
        """The record as JSON."""
        return json.dumps(asdict(self), default=datetime.isoformat)


def decode(text: str) -> Record:
    """The record in `text`; `ValueError`, `TypeError` or `KeyError` where it is none."""
    values = json.loads(text)
    success, failure = values.pop("success"), values.pop("failure")
    for name in ("first_seen", "last_start", "failing_since", "verified"):
        values[name] = _moment(values[name])
    return Record(
        **values,
        success=Success(**{**success, "started": _moment(success["started"])}) if success else None,
        failure=Failure(**{**failure, "at": _moment(failure["at"])}) if failure else None,
    )


def _failure(run: Run) -> Failure | None:
    if run.outcome not in ("failed", "degraded"):
        return None
    at = run.started + timedelta(seconds=run.seconds)
    return Failure(at, run.outcome, run.error or "the reason is not known", run.hint)


def _moment(text: Any) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
