"""Containers stand still and go on again, also after a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from backupd.engine.client import Engine
from backupd.engine.discovery import survey
from backupd.engine.journal import Change, Journal
from backupd.engine.quiesce import quiesce, recover
from backupd.errors import QuiesceFailed
from backupd.volume import Container
from tests.docker.conftest import MakeVolume, StartContainer

pytestmark = pytest.mark.docker

Known = Callable[[str], Container]


@pytest.fixture
def known(engine: Engine) -> Known:
    """What discovery says of a container."""

    def look(container: str) -> Container:
        return next(found for found in survey(engine).containers if found.id == container)

    return look


def _state(engine: Engine, container: str) -> str:
    return str(engine.api.inspect_container(container)["State"]["Status"])


def test_running_containers_stand_still_and_go_on(
    engine: Engine, journal: Journal, start_container: StartContainer, known: Known
) -> None:
    """Both are paused inside and run afterwards, and the journal is empty again."""
    ids = [start_container("sleep 600"), start_container("sleep 600")]
    containers = [known(container) for container in ids]
    with quiesce(engine, journal, containers) as names:
        assert names == tuple(container.name for container in containers)
        assert [_state(engine, container) for container in ids] == ["paused", "paused"]
        assert {change.container for change in journal.changes} == set(ids)
    assert [_state(engine, container) for container in ids] == ["running", "running"]
    assert journal.changes == ()


def test_stopped_and_paused_containers_are_left_alone(
    engine: Engine, journal: Journal, start_container: StartContainer, known: Known
) -> None:
    """E4: who was stopped or paused before stays so."""
    stopped, paused = start_container("true"), start_container("sleep 600")
    engine.api.wait(stopped)
    engine.api.pause(paused)
    with quiesce(engine, journal, [known(stopped), known(paused)]) as names:
        assert names == ()
        assert journal.changes == ()
    assert _state(engine, stopped) == "exited"
    assert _state(engine, paused) == "paused"


def test_error_inside_wakes_the_containers(
    engine: Engine, journal: Journal, start_container: StartContainer, known: Known
) -> None:
    """What fails while containers stand still does not leave them so."""
    container = start_container("sleep 600")
    with pytest.raises(ZeroDivisionError), quiesce(engine, journal, [known(container)]):
        raise ZeroDivisionError
    assert _state(engine, container) == "running"


def test_container_removed_meanwhile_is_no_error(
    engine: Engine, journal: Journal, start_container: StartContainer, known: Known
) -> None:
    """E5: a container that is gone at the end, or was gone at the start, needs no waking."""
    container = start_container("sleep 600")
    before = known(container)
    with quiesce(engine, journal, [before]):
        engine.api.remove_container(container, force=True)
    with quiesce(engine, journal, [before]) as names:
        assert names == ()
    assert journal.changes == ()


def test_failure_with_one_wakes_the_others(
    engine: Engine,
    journal: Journal,
    start_container: StartContainer,
    known: Known,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where one cannot be paused, those paused before it go on, and the error names it."""
    first, second = start_container("sleep 600"), start_container("sleep 600")
    containers = [known(first), known(second)]
    pause = engine.api.pause
    monkeypatch.setattr(engine.api, "pause", lambda c: pause("no-such" if c == second else c))
    with (
        pytest.raises(QuiesceFailed, match=containers[1].name),
        quiesce(engine, journal, containers),
    ):
        pytest.fail("not all are still")
    assert [_state(engine, container) for container in (first, second)] == ["running", "running"]
    assert journal.changes == ()


def test_container_that_does_not_wake_is_named_and_kept(
    engine: Engine,
    journal: Journal,
    start_container: StartContainer,
    known: Known,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After some tries the error says what to type; the journal keeps it, and recovery wakes it."""
    container = start_container("sleep 600")
    found = known(container)
    monkeypatch.setattr("backupd.engine.quiesce.WAKING_SECONDS", (0.0, 0.01))
    unpause = engine.api.unpause
    monkeypatch.setattr(engine.api, "unpause", lambda _: unpause("no-such"))
    with pytest.raises(QuiesceFailed, match=found.name) as caught, quiesce(engine, journal, [found]):
        pass
    assert caught.value.hint == f"wake it by hand: docker unpause {found.name}"
    assert [change.container for change in journal.changes] == [container]
    monkeypatch.undo()
    assert recover(engine, journal) == (found.name,)
    assert _state(engine, container) == "running"


def test_overlapping_quiesces_wake_a_container_once_both_have_ended(
    engine: Engine, journal: Journal, start_container: StartContainer, known: Known
) -> None:
    """Two volumes of one container in backup at once: the first that ends does not wake it."""
    container = start_container("sleep 600")
    found = known(container)
    first_in, first_may_end = threading.Event(), threading.Event()

    def first() -> None:
        with quiesce(engine, journal, [found]):
            first_in.set()
            first_may_end.wait(30)

    thread = threading.Thread(target=first)
    thread.start()
    assert first_in.wait(30)
    with quiesce(engine, journal, [known(container)]) as names:
        assert names == (found.name,)
        first_may_end.set()
        thread.join(30)
        assert _state(engine, container) == "paused"
    assert _state(engine, container) == "running"


CRASHER = """
import os, sys
from pathlib import Path
from backupd.engine.client import Engine
from backupd.engine.discovery import survey
from backupd.engine.journal import Journal
from backupd.engine.quiesce import quiesce
engine = Engine.connect(sys.argv[1] or None)
found = [c for c in survey(engine).containers if c.id == sys.argv[3]]
with quiesce(engine, Journal(Path(sys.argv[2])), found):
    print("still", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def crasher(engine: Engine, tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Start another process that holds a container still until it is killed."""

    def start(container: str) -> subprocess.Popen[str]:
        host = f"unix://{engine.socket}" if engine.socket else ""
        process = subprocess.Popen(
            [sys.executable, "-c", CRASHER, host, str(tmp_path / "journal"), container],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout
        assert process.stdout.readline() == "still\n"
        return process

    return start


def _kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_killed_process_leaves_a_journal_that_wakes_its_containers(
    engine: Engine,
    journal: Journal,
    start_container: StartContainer,
    known: Known,
    crasher: Callable[[str], subprocess.Popen[str]],
) -> None:
    """E1: killed with -9 after the pause; the next start wakes the container, once."""
    container = start_container("sleep 600")
    _kill(crasher(container))
    assert _state(engine, container) == "paused"
    assert recover(engine, journal) == (known(container).name,)
    assert _state(engine, container) == "running"
    assert recover(engine, journal) == ()
    assert journal.changes == ()


def test_living_process_keeps_its_containers_still(
    engine: Engine,
    journal: Journal,
    start_container: StartContainer,
    known: Known,
    crasher: Callable[[str], subprocess.Popen[str]],
) -> None:
    """Recovery wakes nothing of a process that lives, and a quiesce beside it does not rely on its pause."""
    container = start_container("sleep 600")
    process = crasher(container)
    assert recover(engine, journal) == ()
    with (
        pytest.raises(QuiesceFailed, match="paused by another backupd process"),
        quiesce(engine, journal, [known(container)]),
    ):
        pytest.fail("the other process may wake it at any time")
    assert _state(engine, container) == "paused"
    process.communicate(timeout=30)
    assert _state(engine, container) == "running"


def test_recovery_leaves_who_was_woken_by_hand(
    engine: Engine,
    journal: Journal,
    start_container: StartContainer,
    crasher: Callable[[str], subprocess.Popen[str]],
) -> None:
    """E1: somebody was faster, or the container is gone: nothing to do, nothing said."""
    woken, removed = start_container("sleep 600"), start_container("sleep 600")
    for container in (woken, removed):
        _kill(crasher(container))
    engine.api.unpause(woken)
    engine.api.remove_container(removed, force=True)
    assert recover(engine, journal) == ()
    assert journal.changes == ()


def test_changes_to_another_engine_are_kept(engine: Engine, tmp_path: Path) -> None:
    """A journal that served another engine does not lose what that one needs."""
    elsewhere = Change("another-engine", "c1", "app")
    old = Journal(tmp_path / "journal")
    old.record(elsewhere)
    old.close()
    new = Journal(tmp_path / "journal")
    assert recover(engine, new) == ()
    assert new.changes == (elsewhere,)
    new.close()
    third = Journal(tmp_path / "journal")
    third.adopt()
    assert third.changes == (elsewhere,)
    third.close()


def test_pause_is_not_made_where_the_journal_cannot_be_written(
    engine: Engine, journal: Journal, make_volume: MakeVolume, start_container: StartContainer, known: Known
) -> None:
    """E1: no record, no pause."""
    container = start_container("sleep 600", make_volume())
    with Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), journal._descriptor)
        with (
            pytest.raises(Exception, match="cannot write the journal"),
            quiesce(engine, journal, [known(container)]),
        ):
            pytest.fail("paused without a record")
    assert _state(engine, container) == "running"
