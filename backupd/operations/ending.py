"""How a run ended, as those hear of it who count and tell."""

from __future__ import annotations

from dataclasses import replace

from backupd.errors import BackupdError, Interrupted, Locked
from backupd.operations.save import Outcome
from backupd.runs import Outcome as Word
from backupd.runs import Run


def ended(run: Run, outcome: Outcome) -> Run:
    """The run with what came of it; its closing line in the log has told it."""
    run = replace(run, started=outcome.started, seconds=round(outcome.seconds, 3))
    if outcome.saved:
        manifest, degraded = outcome.saved.manifest, "; ".join(outcome.saved.degraded)
        word: Word = "degraded" if degraded else manifest.outcome
        return replace(run, outcome=word, manifest=manifest, error=degraded or None)
    error = outcome.error or BackupdError("the reason is not known")
    return replace(run, outcome=_word(error), error=error.message, hint=error.hint)


def _word(error: BackupdError) -> Word:
    """What an error means for a run: told to stop and locked out are no failures."""
    if isinstance(error, Interrupted):
        return "interrupted"
    return "skipped" if isinstance(error, Locked) else "failed"
