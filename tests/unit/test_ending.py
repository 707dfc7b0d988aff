from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backupd.errors import BackupdError, Interrupted, Locked, StorageFull
from backupd.operations.ending import failed, succeeded
from tests.unit.records import manifest, run


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(StorageFull("no room", hint="make some"), "failed"), (Interrupted("told to stop"), "interrupted"),
     (Locked("at work"), "skipped")],
)  # fmt: skip
def test_an_error_ends_a_run_as_what_it_is(error: BackupdError, outcome: str) -> None:
    """Only some are failures; what it said is kept."""
    ended = failed(run(None, started=datetime.now(UTC) - timedelta(hours=1)), error)
    assert (ended.outcome, ended.error, ended.hint) == (outcome, error.message, error.hint)
    assert ended.manifest is None
    assert ended.seconds >= 3600


def test_a_snapshot_ends_a_run_with_its_own_outcome() -> None:
    """And a clock that went back meanwhile makes no run shorter than nothing."""
    begun = run(None, started=datetime.now(UTC) + timedelta(hours=1))
    ended = succeeded(begun, manifest(outcome="fuzzy"))
    assert (ended.outcome, ended.error, ended.seconds) == ("fuzzy", None, 0)
