"""What Prometheus is told, in its text format (version 0.0.4)."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from backupd import __version__
from backupd.health import KINDS, Health
from backupd.record import Record

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

FAMILIES: Mapping[str, tuple[str, str]] = {
    "backupd_build_info": ("gauge", "Always 1; the labels say which version runs."),
    "backupd_start_timestamp_seconds": ("gauge", "When the daemon started."),
    "backupd_healthy": ("gauge", "1 if all is well, 0 if not; `backupd health` has the reasons."),
    "backupd_problems": ("gauge", "Reasons why not all is well, by kind."),
    "backupd_engine_up": ("gauge", "1 if the engine answered when it was asked last."),
    "backupd_protected_volumes": ("gauge", "Volumes that are backed up on a schedule."),
    "backupd_unprotected_volumes": (
        "gauge",
        "Volumes that `backupd volumes --unprotected` points to, by kind.",
    ),
    "backupd_runs_running": ("gauge", "Volumes that are being saved now."),
    "backupd_runs_waiting": ("gauge", "Turns that wait for others to end."),
    "backupd_notifications_undelivered_total": ("counter", "Messages given up since the start, by channel."),
    "backupd_volume_overdue": ("gauge", "1 if the last success is older than the schedule allows."),
    "backupd_volume_failing": ("gauge", "1 if the last run that ended failed."),
    "backupd_volume_deadline_timestamp_seconds": (
        "gauge",
        "When the volume becomes overdue without a success.",
    ),
    "backupd_volume_next_run_timestamp_seconds": ("gauge", "When the schedule comes next."),
    "backupd_volume_last_start_timestamp_seconds": ("gauge", "When the last run began."),
    "backupd_volume_last_success_timestamp_seconds": ("gauge", "When the newest snapshot was begun."),
    "backupd_volume_last_failure_timestamp_seconds": ("gauge", "When a run failed last."),
    "backupd_volume_last_verified_timestamp_seconds": ("gauge", "When its snapshots were proved whole last."),
    "backupd_volume_duration_seconds": ("gauge", "How long the last success took."),
    "backupd_volume_read_bytes": ("gauge", "Bytes that the last success read."),
    "backupd_volume_new_bytes": ("gauge", "Bytes that were new in the last success."),
    "backupd_volume_stored_bytes": ("gauge", "Bytes that the last success stored."),
    "backupd_volume_files": ("gauge", "Files in the last success."),
    "backupd_volume_quiesce_seconds": ("gauge", "How long containers stood still for the last success."),
    "backupd_volume_consistency": ("gauge", "Always 1; the label says what the last success can promise."),
    "backupd_volume_runs_total": ("counter", "Runs by outcome."),
    "backupd_volume_skipped_total": ("counter", "Schedule points skipped because the last run went on."),
    "backupd_read_bytes_total": ("counter", "Bytes read by all backups that succeeded."),
    "backupd_new_bytes_total": ("counter", "Bytes that were new in all backups that succeeded."),
}
"""Every metric: its type and what it means."""


@dataclass(frozen=True)
class Reading:
    """All that the metrics are made of, as it is now; `volumes` are those that are to be backed up."""

    started: datetime
    health: Health
    volumes: Iterable[str]
    records: Mapping[str, Record]
    engine_up: bool = True
    running: int = 0
    waiting: int = 0
    next_runs: Mapping[str, datetime] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    unprotected: Mapping[str, int] = field(default_factory=dict)
    undelivered: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One value of a metric."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def exposition(reading: Reading) -> str:
    """The page that Prometheus reads."""
    found: dict[str, list[Sample]] = {name: [] for name in FAMILIES}
    for sample in (*_whole(reading), *_volumes(reading)):
        found[sample.name].append(sample)
    lines = []
    for name, (kind, meaning) in FAMILIES.items():
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *map(_line, found[name])]
    return "\n".join(lines) + "\n"


def _whole(reading: Reading) -> Iterator[Sample]:
    health = reading.health
    kinds: dict[str, int] = {kind: sum(problem.kind == kind for problem in health.problems) for kind in KINDS}
    build = {"version": __version__, "python": platform.python_version()}
    yield Sample("backupd_build_info", 1, build)
    yield Sample("backupd_start_timestamp_seconds", reading.started.timestamp())
    yield Sample("backupd_healthy", health.ok)
    yield Sample("backupd_engine_up", reading.engine_up)
    yield Sample("backupd_protected_volumes", health.protected)
    yield Sample("backupd_runs_running", reading.running)
    yield Sample("backupd_runs_waiting", reading.waiting)
    yield from _by("backupd_problems", "kind", kinds)
    yield from _by("backupd_unprotected_volumes", "kind", reading.unprotected)
    yield from _by("backupd_notifications_undelivered_total", "channel", reading.undelivered)
    records = reading.records.values()
    yield Sample("backupd_read_bytes_total", sum(record.read_bytes for record in records))
    yield Sample("backupd_new_bytes_total", sum(record.new_bytes for record in records))


def _volumes(reading: Reading) -> Iterator[Sample]:
    overdue = {problem.volume for problem in reading.health.problems if problem.kind == "overdue"}
    for volume in sorted(set(reading.volumes)):
        labels = {"volume": volume}
        record = reading.records.get(volume) or Record(volume)
        yield Sample("backupd_volume_overdue", volume in overdue, labels)
        yield Sample("backupd_volume_failing", record.failing_since is not None, labels)
        yield Sample("backupd_volume_skipped_total", reading.skipped.get(volume, 0), labels)
        for name, moment in _moments(reading, record):
            if moment is not None:
                yield Sample(f"backupd_volume_{name}_timestamp_seconds", moment.timestamp(), labels)
        for outcome, count in sorted(record.runs.items()):
            yield Sample("backupd_volume_runs_total", count, {**labels, "outcome": outcome})
        yield from _success(record, labels)


def _moments(reading: Reading, record: Record) -> Iterator[tuple[str, datetime | None]]:
    yield "deadline", reading.health.deadlines.get(record.volume)
    yield "next_run", reading.next_runs.get(record.volume)
    yield "last_start", record.last_start
    yield "last_success", record.success.started if record.success else None
    yield "last_failure", record.failure.at if record.failure else None
    yield "last_verified", record.verified


def _success(record: Record, labels: Mapping[str, str]) -> Iterator[Sample]:
    success = record.success
    if success is None:
        return
    yield Sample("backupd_volume_duration_seconds", success.seconds, labels)
    yield Sample("backupd_volume_read_bytes", success.read_bytes, labels)
    yield Sample("backupd_volume_new_bytes", success.new_bytes, labels)
    yield Sample("backupd_volume_stored_bytes", success.stored_bytes, labels)
    yield Sample("backupd_volume_files", success.files, labels)
    yield Sample("backupd_volume_quiesce_seconds", success.quiesce_seconds, labels)
    yield Sample("backupd_volume_consistency", 1, {**labels, "consistency": success.consistency})


def _by(name: str, label: str, counts: Mapping[str, int]) -> Iterator[Sample]:
    for value, count in sorted(counts.items()):
        yield Sample(name, count, {label: value})


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels.items())
    number = int(sample.value) if sample.value == int(sample.value) else round(sample.value, 3)
    return f"{sample.name}{{{labels}}} {number}" if labels else f"{sample.name} {number}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
