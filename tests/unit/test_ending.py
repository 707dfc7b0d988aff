"""What comes of a run, from what came of its volume."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backupd.errors import BackupdError, Interrupted, Locked, StorageFull
from backupd.operations.ending import ended
from backupd.operations.save import Outcome, Saved
from tests.unit.records import manifest, run

NOW = datetime.now(UTC)
BEGUN = run(None, started=NOW - timedelta(hours=1))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(StorageFull("no room", hint="make some"), "failed"), (Interrupted("told to stop"), "interrupted"),
     (Locked("at work"), "skipped")],
)  # fmt: skip
def test_an_error_ends_a_run_as_what_it_is(error: BackupdError, outcome: str) -> None:
    """Only some are failures; what it said is kept."""
    over = ended(BEGUN, Outcome(BEGUN.volume, NOW, 12.3456, error=error))
    assert (over.outcome, over.error, over.hint) == (outcome, error.message, error.hint)
    assert (over.manifest, over.started, over.seconds) == (None, NOW, 12.346)


def test_a_snapshot_ends_a_run_with_its_own_outcome() -> None:
    """A fuzzy one is fuzzy."""
    made = manifest(outcome="fuzzy")
    over = ended(BEGUN, Outcome(BEGUN.volume, NOW, 1.0, Saved(made)))
    assert (over.outcome, over.error, over.manifest) == ("fuzzy", None, made)


def test_a_post_hook_that_failed_degrades_a_run() -> None:
    """E7: the snapshot is kept, and what went wrong is told."""
    saved = Saved(manifest(), degraded=("post of db: exit code 1",))
    over = ended(BEGUN, Outcome(BEGUN.volume, NOW, 1.0, saved))
    assert (over.outcome, over.error) == ("degraded", "post of db: exit code 1")
    assert over.manifest is not None
