"""`backupd backup`."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from backupd.cli.output import print_json, say, speak
from backupd.cli.progress import cancellable, shown_each
from backupd.cli.words import size
from backupd.engine.discovery import Survey, survey
from backupd.errors import BackupdError, ConfigError, Interrupted, PartFailed, UsageError
from backupd.group import groups
from backupd.ledger import Ledger
from backupd.operations.context import Context
from backupd.operations.ending import ended
from backupd.operations.save import Outcome, Saved, Target, save
from backupd.protection import Protection
from backupd.runs import Run
from backupd.settings import Settings
from backupd.wiring import assembled, connected, forget_in, protection, protections, renewed


def run(arguments: Namespace, settings: Settings) -> int:
    """Save the volumes; one that fails does not keep the others from it."""
    _check(arguments)
    speak(settings)
    with connected(settings) as engine:
        windows = _windows(arguments, settings, survey(engine))
        cancel = threading.Event()
        with assembled(settings, engine, say, cancel) as context, cancellable(cancel):
            outcomes = [outcome for window in windows for outcome in _save(context, settings, window, cancel)]
    if arguments.json:
        print_json([_as_json(outcome) for outcome in outcomes])
    _raise_failures(outcomes)
    return 0


def _check(arguments: Namespace) -> None:
    given = [bool(arguments.volumes), arguments.all, arguments.project is not None]
    if sum(given) != 1:
        raise UsageError(
            "which volumes? name them, or give --all, or --project",
            hint="`backupd volumes` lists them; `backupd backup --help` has examples",
        )


def _windows(arguments: Namespace, settings: Settings, seen: Survey) -> list[tuple[Protection, ...]]:
    """The volumes meant; those in one window are read together. Every name is looked up first.

    Who names volumes, or a project, wants them together; of all volumes those are that belong together.
    """
    if arguments.volumes:
        volumes = [seen.volume(name) for name in dict.fromkeys(arguments.volumes)]
        return [tuple(protection(settings, seen, volume) for volume in volumes)]
    meant = [each for each in protections(settings, seen) if each.policy or each.errors]
    if arguments.project is not None:
        meant = [each for each in meant if each.volume.project == arguments.project]
    if not meant:
        where = f" in project {arguments.project}" if arguments.project is not None else ""
        raise BackupdError(
            f"no volume is protected{where}",
            hint="give a volume the label backupd.enable=true, or name it: backupd backup VOLUME",
        )
    if arguments.project is not None:
        return [tuple(meant)]
    return [*(group.members for group in groups(meant)), *((each,) for each in meant if each.errors)]


def _save(
    context: Context, settings: Settings, window: Sequence[Protection], cancel: threading.Event
) -> list[Outcome]:
    """What became of the volumes of one window; `Interrupted` where the command is told to stop."""
    sound = [each for each in window if not each.errors]
    # A daemon that runs judges by it as well.
    ledger, now = Ledger(settings.state_dir), datetime.now(UTC)
    runs = [Run(each.volume.name, each.volume.name, now) for each in sound]
    for run in runs:
        ledger.started(run)
    with shown_each([each.volume.name for each in sound]) as progress:
        outcomes = save(
            partial(renewed, settings, context, say, cancel),
            # What nobody protects has no retention of its own, only that of the defaults.
            [
                Target(each.volume.name, each.policy or settings.defaults, retain=bool(each.policy))
                for each in sound
            ],
            state_dir=settings.state_dir,
            progress=progress,
            cancel=cancel,
            forget_in=forget_in(settings),
        )
    for run, outcome in zip(runs, outcomes, strict=True):
        ledger.ended(ended(run, outcome))
    for outcome in outcomes:
        if isinstance(outcome.error, Interrupted):
            raise outcome.error
        if outcome.saved and sys.stderr.isatty():
            say(_told(outcome.saved))
    return [*outcomes, *(_refused(each) for each in window if each.errors)]


def _refused(protection: Protection) -> Outcome:
    error = ConfigError(
        f"volume {protection.volume.name}: " + "; ".join(protection.errors),
        hint="correct the labels or the settings",
    )
    return Outcome(protection.volume.name, datetime.now(UTC), 0.0, error=error)


def _told(saved: Saved) -> str:
    manifest = saved.manifest
    seconds = (manifest.finished - manifest.started).total_seconds()
    told = (
        f"{manifest.volume.name}: snapshot {manifest.snapshot}, {size(manifest.bytes.tar)}, "
        f"{size(manifest.bytes.stored)} stored, {seconds:.1f} s ({manifest.consistency})"
    )
    warnings = [*manifest.warnings, *([saved.warning] if saved.warning else [])]
    gone = [f"  forgotten: {', '.join(saved.forgotten)}"] if saved.forgotten else []
    return "\n".join((told, *gone, *(f"  warning: {warning}" for warning in warnings)))


def _raise_failures(outcomes: list[Outcome]) -> None:
    errors = [(outcome.volume, outcome.error) for outcome in outcomes if outcome.error]
    if not errors:
        return
    if len(outcomes) == 1:
        raise errors[0][1]
    for volume, error in errors:
        say(f"{volume}: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else ""))
    failed = f"{len(errors)} of {len(outcomes)} volumes failed: {', '.join(volume for volume, _ in errors)}"
    raise BackupdError(failed) if len(errors) == len(outcomes) else PartFailed(failed)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    saved, error = outcome.saved, outcome.error
    return {
        "volume": outcome.volume,
        "outcome": saved.manifest.outcome if saved else "failed",
        "snapshot": saved.manifest.as_json() if saved else None,
        "forgotten": saved.forgotten if saved else (),
        "error": error.message if error else None,
        "hint": error.hint if error else None,
    }
