"""Containers whose health is checked stand still, go on, and are checked on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from backupd.engine.journal import Journal
from backupd.errors import QuiesceFailed
from backupd.volume import Container
from tests.docker.quiet.calm import quiet, wait_for
from tests.docker.quiet.conftest import Stage

pytestmark = pytest.mark.docker

SECOND = 10**9
CHECKED = {"test": ["CMD", "true"], "interval": SECOND, "timeout": 10 * SECOND}


def _last(stage: Stage, container: Container) -> Mapping[str, Any] | None:
    log = stage.inspect(container)["Health"]["Log"] or [None]
    found: Mapping[str, Any] | None = log[-1]
    return found


def _is_checked_again(stage: Stage, container: Container) -> None:
    before = _last(stage, container)
    wait_for(lambda: _last(stage, container) != before)


def test_checked_containers_come_back_again_and_again(stage: Stage, journal: Journal) -> None:
    """E4: a pause in the moment in which a check starts would freeze it, and the container for good."""
    containers = [stage.start("sleep 600", healthcheck=CHECKED) for _ in range(2)]
    for _ in range(12):
        with quiet(stage.engine, journal, containers):
            assert [stage.status(container) for container in containers] == ["paused", "paused"]
        assert [stage.status(container) for container in containers] == ["running", "running"]
    for container in containers:
        _is_checked_again(stage, container)
    assert journal.changes == ()


def test_checks_by_default_are_as_good(stage: Stage, journal: Journal) -> None:
    """A check without an interval is not waited for when it is far away."""
    container = stage.start("sleep 600", healthcheck={"test": ["CMD", "true"]})
    with quiet(stage.engine, journal, [container]):
        assert stage.status(container) == "paused"
    assert stage.status(container) == "running"


def test_container_whose_unpausing_hangs_does_not_keep_the_others(
    stage: Stage, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E1: that one is named with what thaws it; those that come after it in the order go on."""
    other, hung = stage.start("sleep 600"), stage.start("sleep 600")
    api = stage.engine.api
    unpause, inspect = api.unpause, api.inspect_container
    monkeypatch.setattr("backupd.engine.quiet.undo.UNPAUSE_SECONDS", 5)

    def hang(container: str) -> Any:
        if container == hung.id:
            api.wait(container, timeout=api.timeout)
        return unpause(container)

    def refuse(container: str) -> Any:
        assert container != hung.id, "inspected, which would hang too"
        return inspect(container)

    monkeypatch.setattr(api, "unpause", hang)
    with pytest.raises(QuiesceFailed, match=hung.name) as caught, quiet(stage.engine, journal, [other, hung]):
        monkeypatch.setattr(api, "inspect_container", refuse)
    monkeypatch.setattr(api, "inspect_container", inspect)
    assert f"docker unpause {hung.name}" in str(caught.value.hint)
    assert f"{hung.id}/freezer.state" in str(caught.value.hint)
    assert [stage.status(other), stage.status(hung)] == ["running", "paused"]
    assert [change.container for change in journal.changes if change.action == "pause"] == [hung.id]
