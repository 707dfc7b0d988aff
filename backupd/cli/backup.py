"""`backupd backup`."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from dataclasses import dataclass
from functools import partial
from typing import Any

from backupd.cli.output import print_json, say, speak
from backupd.cli.progress import cancellable, shown
from backupd.cli.words import size
from backupd.engine.discovery import Survey, survey
from backupd.errors import BackupdError, ConfigError, Interrupted, PartFailed, UsageError
from backupd.operations.context import Context
from backupd.operations.save import Saved, save
from backupd.protection import Policy, Protection, resolve
from backupd.settings import Settings
from backupd.wiring import assembled, connected, forget_in, protections, renewed


@dataclass(frozen=True)
class _Outcome:
    """What became of one volume: a snapshot, or the error."""

    volume: str
    saved: Saved | None = None
    error: BackupdError | None = None


def run(arguments: Namespace, settings: Settings) -> int:
    """Save the volumes one after the other; one that fails does not keep the others from it."""
    _check(arguments)
    speak(settings)
    with connected(settings) as engine:
        targets = _targets(arguments, settings, survey(engine))
        cancel = threading.Event()
        with assembled(settings, engine, say, cancel) as context, cancellable(cancel):
            outcomes = [_save(context, settings, target, cancel) for target in targets]
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


def _targets(arguments: Namespace, settings: Settings, seen: Survey) -> list[Protection]:
    """The volumes meant; every name is looked up before the first one is saved."""
    if arguments.volumes:
        volumes = [seen.volume(name) for name in dict.fromkeys(arguments.volumes)]
        return [resolve(v, seen.users(v.name), settings.rules, settings.defaults) for v in volumes]
    meant = [each for each in protections(settings, seen) if each.policy or each.errors]
    if arguments.project is not None:
        meant = [each for each in meant if each.volume.project == arguments.project]
    if not meant:
        where = f" in project {arguments.project}" if arguments.project is not None else ""
        raise BackupdError(
            f"no volume is protected{where}",
            hint="give a volume the label backupd.enable=true, or name it: backupd backup VOLUME",
        )
    return meant


def _save(context: Context, settings: Settings, target: Protection, cancel: threading.Event) -> _Outcome:
    name = target.volume.name
    try:
        with shown(name) as progress:
            saved = save(
                partial(renewed, settings, context, say, cancel),
                name,
                _policy(target, settings),
                state_dir=settings.state_dir,
                progress=progress,
                cancel=cancel,
                # What nobody protects has no retention of its own, only that of the defaults.
                forget_in=forget_in(settings) if target.policy else None,
            )
    except Interrupted:
        raise
    except BackupdError as error:
        return _Outcome(name, error=error)
    if sys.stderr.isatty():
        say(_told(saved))
    return _Outcome(name, saved)


def _policy(target: Protection, settings: Settings) -> Policy:
    """The volume's own policy; the defaults where nobody protects it but somebody names it."""
    if target.errors:
        raise ConfigError(
            f"volume {target.volume.name}: " + "; ".join(target.errors),
            hint="correct the labels or the settings",
        )
    return target.policy or settings.defaults


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


def _raise_failures(outcomes: list[_Outcome]) -> None:
    errors = [(outcome.volume, outcome.error) for outcome in outcomes if outcome.error]
    if not errors:
        return
    if len(outcomes) == 1:
        raise errors[0][1]
    for volume, error in errors:
        say(f"{volume}: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else ""))
    failed = f"{len(errors)} of {len(outcomes)} volumes failed: {', '.join(volume for volume, _ in errors)}"
    raise BackupdError(failed) if len(errors) == len(outcomes) else PartFailed(failed)


def _as_json(outcome: _Outcome) -> dict[str, Any]:
    saved, error = outcome.saved, outcome.error
    return {
        "volume": outcome.volume,
        "outcome": saved.manifest.outcome if saved else "failed",
        "snapshot": saved.manifest.as_json() if saved else None,
        "forgotten": saved.forgotten if saved else (),
        "error": error.message if error else None,
        "hint": error.hint if error else None,
    }
