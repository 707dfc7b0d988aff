"""`backupd snapshots`."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from typing import Any

from backupd.cli.output import print_json, print_table, say, speak
from backupd.cli.words import relative, size
from backupd.errors import BackupdError, PartFailed
from backupd.opening import opened
from backupd.operations.collapse import hint
from backupd.repository.history import Entry
from backupd.settings import Settings


def run(arguments: Namespace, settings: Settings) -> int:
    """List snapshots; a damaged one is told and does not hide the others."""
    speak(settings)
    damaged: list[BackupdError] = []
    with opened(settings) as repository:
        found = repository.history(arguments.host, arguments.volume, damaged=damaged.append)
        if arguments.volume and not found and not damaged:
            repository.find(arguments.volume, host=arguments.host)  # raises, naming what there is
    if arguments.json:
        print_json([_as_json(entry) for entry in found])
    else:
        _print(found)
    for error in damaged:
        say(f"backupd: {error.message}")
    if damaged:
        raise PartFailed(f"{len(damaged)} manifests cannot be read", hint="the snapshots listed are whole")
    return 0


def _print(found: list[Entry]) -> None:
    now = datetime.now(UTC)
    print_table(
        ("SNAPSHOT", "HOST", "VOLUME", "TAKEN", "SIZE", "STORED", "FILES", "CONSISTENCY"),
        (_cells(entry, now) for entry in found),
        right=("SIZE", "STORED", "FILES"),
        whole=("SNAPSHOT", "SIZE", "STORED", "CONSISTENCY"),
    )
    for volume in sorted({entry.manifest.volume.name for entry in found if entry.collapsed}):
        say(f"{volume} has collapsed and keeps every snapshot; {hint(volume)}")


def _cells(entry: Entry, now: datetime) -> tuple[str, ...]:
    manifest = entry.manifest
    return (
        manifest.snapshot,
        manifest.host,
        manifest.volume.name,
        relative(manifest.started, now),
        size(manifest.bytes.tar),
        size(manifest.bytes.stored),
        str(sum(manifest.members.values())),
        "COLLAPSED" if entry.collapsed else manifest.consistency,
    )


def _as_json(entry: Entry) -> dict[str, Any]:
    return {**entry.manifest.as_json(), "good": entry.good, "collapsed": entry.collapsed}
