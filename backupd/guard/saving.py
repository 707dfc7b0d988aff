"""Saving volumes that are about to go, in whichever process: told to who listens, as every run is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from backupd.errors import BackupdError
from backupd.operations.context import Context
from backupd.operations.ending import ended
from backupd.operations.preflight import Preflight
from backupd.operations.save import Outcome, Target, save
from backupd.progress import silent
from backupd.protection import Protection
from backupd.runs import Listener, Run
from backupd.settings import Settings
from backupd.snapshot import Manifest
from backupd.wiring import Say, renewed


def preflight(
    settings: Callable[[], Settings],
    context: Context,
    listeners: Sequence[Listener],
    say: Say,
    cancel: threading.Event,
) -> Preflight:
    """A pre-flight with the settings of the moment; `listeners` hear of each run."""

    def saved(protection: Protection) -> Manifest:
        run = Run(protection.volume.name, protection.volume.name, datetime.now(UTC))
        for listener in listeners:
            listener.started(run)
        end = replace(run, outcome="failed", error="internal error")
        try:
            outcome = _save(settings(), context, protection, say, cancel)
            end = ended(run, outcome)
        finally:
            for listener in listeners:
                listener.ended(end)
        if outcome.saved is None:
            raise outcome.error or BackupdError(f"volume {run.volume} could not be saved")
        return outcome.saved.manifest

    return Preflight(
        lambda: renewed(settings(), context, say, cancel),
        saved,
        state_dir=settings().state_dir,
        cancel=cancel,
    )


def _save(
    settings: Settings, context: Context, protection: Protection, say: Say, cancel: threading.Event
) -> Outcome:
    # Nothing is forgotten on the eve of a deletion.
    target = Target(protection.volume.name, protection.policy or settings.defaults, retain=False)
    [outcome] = save(
        partial(renewed, settings, context, say, cancel),
        [target],
        state_dir=settings.state_dir,
        progress=lambda _: silent,
        cancel=cancel,
        forget_in=None,
    )
    return outcome
