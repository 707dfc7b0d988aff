"""How a run ended, as those hear of it who count and tell."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from backupd.errors import BackupdError, Interrupted, Locked
from backupd.runs import Outcome, Run
from backupd.snapshot import Manifest


def succeeded(run: Run, manifest: Manifest) -> Run:
    """The run, which ends now with a snapshot."""
    return replace(run, outcome=manifest.outcome, manifest=manifest, seconds=_seconds(run))


def failed(run: Run, error: BackupdError) -> Run:
    """The run, which ends now with an error, or through nobody's fault."""
    return replace(run, outcome=outcome(error), error=error.message, hint=error.hint, seconds=_seconds(run))


def outcome(error: BackupdError) -> Outcome:
    """What an error means for a run: told to stop and locked out are no failures."""
    if isinstance(error, Interrupted):
        return "interrupted"
    return "skipped" if isinstance(error, Locked) else "failed"


def _seconds(run: Run) -> float:
    return round(max(0.0, (datetime.now(UTC) - run.started).total_seconds()), 3)
