"""`backupd snapshots`."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime

from backupd.cli.output import print_json, print_table, say
from backupd.cli.words import size, when
from backupd.errors import BackupdError, PartFailed
from backupd.settings import Settings
from backupd.snapshot import Manifest
from backupd.wiring import opened


def run(arguments: Namespace, settings: Settings) -> int:
    """List snapshots; a damaged one is told and does not hide the others."""
    damaged: list[BackupdError] = []
    repository = opened(settings)
    found = repository.snapshots(arguments.host, arguments.volume, damaged=damaged.append)
    if arguments.volume and not found and not damaged:
        repository.find(arguments.volume, host=arguments.host)  # raises, naming what there is
    if arguments.json:
        print_json([manifest.as_json() for manifest in found])
    else:
        _print(found)
    for error in damaged:
        say(f"backupd: {error.message}")
    if damaged:
        raise PartFailed(f"{len(damaged)} manifests cannot be read", hint="the snapshots listed are whole")
    return 0


def _print(found: list[Manifest]) -> None:
    now = datetime.now(UTC)
    print_table(
        ("SNAPSHOT", "HOST", "VOLUME", "TAKEN", "SIZE", "NEW", "FILES", "CONSISTENCY"),
        (_cells(manifest, now) for manifest in found),
        right=("SIZE", "NEW", "FILES"),
    )


def _cells(manifest: Manifest, now: datetime) -> tuple[str, ...]:
    return (
        manifest.snapshot,
        manifest.host,
        manifest.volume.name,
        when(manifest.started, now),
        size(manifest.bytes.tar),
        size(manifest.bytes.stored),
        str(sum(manifest.members.values())),
        manifest.consistency,
    )
