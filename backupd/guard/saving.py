"""Saving volumes that are about to go, in whichever process: told to who listens, as every run is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from backupd.errors import BackupdError, Interrupted, Locked
from backupd.operations.context import Context
from backupd.operations.preflight import Preflight
from backupd.operations.save import save
from backupd.progress import silent
from backupd.protection import Protection
from backupd.runs import Listener, Outcome, Run
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
        begun = time.monotonic()
        for listener in listeners:
            listener.started(run)
        try:
            manifest = _save(settings(), context, protection, say, cancel)
            run = replace(run, outcome=manifest.outcome, manifest=manifest)
        except BackupdError as error:
            run = replace(run, outcome=_outcome(error), error=error.message, hint=error.hint)
            raise
        finally:
            run = replace(run, outcome=run.outcome or "failed", seconds=round(time.monotonic() - begun, 3))
            for listener in listeners:
                listener.ended(run)
        return manifest

    return Preflight(
        lambda: renewed(settings(), context, say, cancel),
        saved,
        state_dir=settings().state_dir,
        cancel=cancel,
    )


def _save(
    settings: Settings, context: Context, protection: Protection, say: Say, cancel: threading.Event
) -> Manifest:
    return save(
        partial(renewed, settings, context, say, cancel),
        protection.volume.name,
        protection.policy or settings.defaults,
        state_dir=settings.state_dir,
        progress=silent,
        cancel=cancel,
        # Nothing is forgotten on the eve of a deletion.
        forget_in=None,
    ).manifest


def _outcome(error: BackupdError) -> Outcome:
    if isinstance(error, Interrupted):
        return "interrupted"
    return "skipped" if isinstance(error, Locked) else "failed"
