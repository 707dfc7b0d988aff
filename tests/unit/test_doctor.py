"""The parts of an examination that need no engine."""

from __future__ import annotations

import pytest

from backupd.doctor.engine import helper
from backupd.doctor.finding import bad, examined, good
from backupd.engine.image import HelperImage
from backupd.errors import EngineError
from backupd.gate.installation import weakness
from backupd.storage.memory import MemoryStorage
from backupd.storage.trial import trial


@pytest.mark.parametrize(
    ("version", "porous"),
    [
        ("20.10.24+dfsg1", True),
        ("25.0.15", True),
        ("25.0.16", False),
        ("26.1.5+dfsg1", True),
        ("29.3.0", True),
        ("29.3.1", False),
        ("30.0.0-rc.1", False),
    ],
)
def test_versions_that_requests_pass_are_known(version: str, porous: bool) -> None:
    """25.0.16 closes it for the series with long support, 29.3.1 for the newest."""
    assert (weakness(version) is not None) is porous


def test_an_error_is_the_last_finding_of_its_examination() -> None:
    """Others go on."""

    def failing():
        yield good("engine", "answers")
        raise EngineError("it has gone", hint="start it")

    assert list(examined("engine", failing)) == [
        good("engine", "answers"),
        bad("engine", "it has gone", "start it"),
    ]


def test_busybox_tar_is_bad() -> None:
    """What it loses does not come back."""
    assert helper(HelperImage("alpine:3.22", "busybox", "1.37")).verdict == "bad"
    assert helper(HelperImage("mine", "gnu", "1.35")).verdict == "good"


def test_a_trial_leaves_nothing() -> None:
    """The object comes, is read, and goes."""
    storage = MemoryStorage()
    tried = trial(storage)
    assert tried.deletes
    assert list(storage.list("")) == []
    assert abs(tried.ahead_seconds) < 60
