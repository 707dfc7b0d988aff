"""`backupd restore`."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import structlog

from backupd.cli import unpack
from backupd.cli.choice import chosen_snapshot
from backupd.cli.output import confirm, print_json, say, speak
from backupd.cli.progress import cancellable, shown
from backupd.errors import SnapshotNotFound, UsageError
from backupd.operations.context import Context
from backupd.operations.lock import volume_lock
from backupd.operations.moment import newest_moment
from backupd.operations.restore import Consent, RestorePlan, RestoreResult, execute, plan
from backupd.repository import Repository
from backupd.settings import Settings
from backupd.snapshot import Manifest
from backupd.wiring import assembled, connected

log = structlog.get_logger(__name__)


def run(arguments: Namespace, settings: Settings) -> int:
    """Put volumes back: all is planned and confirmed before the first one is touched."""
    _check(arguments)
    speak(settings)
    if arguments.output:
        return unpack.run(arguments, settings)
    cancel = threading.Event()
    with (
        connected(settings) as engine,
        assembled(settings, engine, say, cancel) as context,
        ExitStack() as locks,
    ):
        manifests = _manifests(arguments, settings, context.repository)
        for name in sorted(arguments.to or manifest.volume.name for manifest in manifests):
            # A daemon that sees the new volume must not save it half restored.
            locks.enter_context(volume_lock(settings.state_dir, name))
        consent = Consent(arguments.replace, arguments.in_place_wipe, safe=not arguments.no_safety_snapshot)
        plans = [plan(context, m, to=arguments.to, consent=consent) for m in manifests]
        for each in plans:
            say(str(each))
        if arguments.dry_run:
            _print(arguments, [_plan_as_json(each) for each in plans])
            return 0
        confirm([each.volume.name for each in plans if each.destroys], yes=arguments.yes)
        with cancellable(cancel):
            results = [_execute(context, each, cancel) for each in plans]
    _print(arguments, [_as_json(result) for result in results])
    return 0


def _check(arguments: Namespace) -> None:
    if (arguments.volume is None) == (arguments.project is None):
        raise UsageError("which volume? name one, or give --project", hint="`backupd snapshots` lists them")
    if arguments.project is not None and (arguments.to or arguments.snapshot != "latest"):
        raise UsageError(
            "--project restores every volume under its own name, from one moment",
            hint="choose the moment with --at; --snapshot and --to are for a single volume",
        )
    if bool(arguments.path) != bool(arguments.output) or (arguments.output and arguments.volume is None):
        raise UsageError(
            "--path and --output belong together, with a VOLUME",
            hint="backupd restore VOLUME --path 'etc/*.conf' --output DIR; all of it: --path .",
        )


def _manifests(arguments: Namespace, settings: Settings, repository: Repository) -> list[Manifest]:
    if arguments.volume is None:
        return _project(arguments, settings, repository)
    return [chosen_snapshot(arguments, settings, repository)]


def _project(arguments: Namespace, settings: Settings, repository: Repository) -> list[Manifest]:
    """The snapshots of a compose project's volumes, of one moment where there is one."""
    found = [
        manifest
        for manifest in repository.snapshots(arguments.host)
        if manifest.volume.project == arguments.project
        and (arguments.at is None or manifest.started <= arguments.at)
    ]
    if not found:
        raise SnapshotNotFound(
            f"no snapshot of a volume of project {arguments.project}"
            + (f" from before {arguments.at:%Y-%m-%d %H:%M:%S}" if arguments.at else ""),
            hint="see `backupd snapshots`",
        )
    moment = newest_moment(_of_one_host(found, settings.host))
    for remark in moment.remarks:
        say(remark)
    return list(moment.manifests)


def _of_one_host(found: Sequence[Manifest], own: str) -> Iterator[Manifest]:
    """Of each volume the snapshots of this host if it has any; else those of the only host that has."""
    hosts: dict[str, set[str]] = {}
    for manifest in found:
        hosts.setdefault(manifest.volume.name, set()).add(manifest.host)
    for volume, having in sorted(hosts.items()):
        if len(having) > 1 and own not in having:
            raise SnapshotNotFound(
                f"more than one host has snapshots of {volume}: {', '.join(sorted(having))}",
                hint="name one with --host",
            )
    for manifest in found:
        if manifest.host == own or own not in hosts[manifest.volume.name]:
            yield manifest


def _execute(context: Context, each: RestorePlan, cancel: threading.Event) -> RestoreResult:
    with shown(each.volume.name) as progress:
        result = execute(context, each, progress=progress, cancel=cancel)
    log.info(
        "restore finished",
        volume=result.volume,
        snapshot=result.manifest.snapshot,
        created=result.created,
        saved=result.saved,
        seconds=round(result.seconds, 3),
        bytes=result.manifest.bytes.tar,
    )
    if sys.stderr.isatty():
        say(f"{result.volume}: restored from {result.manifest.snapshot} in {result.seconds:.1f} s")
        if result.saved:
            say(f"  what it held before is snapshot {result.saved}")
    return result


def _print(arguments: Namespace, values: list[dict[str, Any]]) -> None:
    if arguments.json:
        print_json(values)


def _plan_as_json(each: RestorePlan) -> dict[str, Any]:
    return {
        "volume": each.volume.name,
        "snapshot": each.manifest.snapshot,
        "host": each.manifest.host,
        "way": each.way,
        "stops": each.users,
        "saves": each.destroys and each.safe,
    }


def _as_json(result: RestoreResult) -> dict[str, Any]:
    return {
        "volume": result.volume,
        "snapshot": result.manifest.snapshot,
        "host": result.manifest.host,
        "created": result.created,
        "saved": result.saved,
        "seconds": round(result.seconds, 3),
    }
