"""Runs, manifests and records as tests need them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from backupd.cron import parse
from backupd.health import Watched
from backupd.runs import Outcome, Run
from backupd.snapshot import Chunks, Manifest, Quiesced, Sidecars, Sizes, Tar, new_id
from backupd.volume import Volume

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def manifest(volume: str = "shop", started: datetime = NOON, **other: Any) -> Manifest:
    """A snapshot that was begun then and took a minute."""
    values: dict[str, Any] = {
        "snapshot": new_id(started),
        "host": "db1",
        "volume": Volume(volume, "local", {}, {}),
        "started": started,
        "finished": started + timedelta(seconds=60),
        "consistency": "crash-consistent",
        "quiesced": Quiesced("pause", ("db",), 1.5),
        "tar": Tar("gnu", "1.35"),
        "members": {"file": 7, "directory": 2},
        "bytes": Sizes(tar=10_240, content=4_000, new=2_048, stored=1_024),
        "chunks": Chunks(3, 1, 100, 2_000),
        "sidecars": Sidecars("0" * 64, "1" * 64),
        "outcome": "ok",
        "tool": "backupd",
    }
    return Manifest(**{**values, **other})


def run(outcome: Outcome | None, volume: str = "shop", started: datetime = NOON, **other: Any) -> Run:
    """A run that took a minute; with a snapshot where that belongs to its outcome."""
    saved = manifest(volume, started) if outcome in ("ok", "fuzzy", "degraded") else None
    failed = outcome in ("failed", "degraded")
    values: dict[str, Any] = {
        "seconds": 60.0,
        "error": "the storage is full" if failed else None,
        "hint": "make room" if failed else None,
        "manifest": saved,
    }
    return Run(volume, volume, started, outcome=outcome, **{**values, **other})


def watched(volume: str = "shop", schedule: str = "0 2 * * *", **other: Any) -> Watched:
    """A volume that is to be backed up."""
    return Watched(volume, parse(schedule, seed=volume), **other)
