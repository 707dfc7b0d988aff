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
from backupd.engine.journal import Change, Journal
from backupd.engine.quiesce import recover
from backupd.engine.quiet.patience import Patience
from backupd.errors import Interrupted, QuiesceFailed
from tests.docker.conftest import MakeVolume, StartContainer
from tests.docker.quiet.calm import known, quiet, state

pytestmark = pytest.mark.docker


def test_running_containers_stand_still_and_go_on(
    engine: Engine, journal: Journal, start_container: StartContainer
) -> None:
    """Both are paused inside and run afterwards, and the journal is empty again."""
    ids = [start_container("sleep 600"), start_container("sleep 600")]
    containers = [known(engine, container) for container in ids]
    with quiet(engine, journal, containers) as still:
        assert [state(engine, container) for container in ids] == ["paused", "paused"]
        assert {change.container for change in journal.changes if change.action == "pause"} == set(ids)
    assert [state(engine, container) for container in ids] == ["running", "running"]
    assert journal.changes == ()
    report = still.end()
    assert [each.consistency for each in report.containers] == ["crash-consistent"] * 2
    assert all(each.held and each.seconds > 0 for each in report.containers)
    assert report.seconds > 0


def test_stopped_and_paused_containers_are_left_alone(
    engine: Engine, journal: Journal, start_container: StartContainer
) -> None:
    """E4: who was stopped or paused before stays so."""
    stopped, paused = start_container("true"), start_container("sleep 600")
    engine.api.wait(stopped)
    engine.api.pause(paused)
    with quiet(engine, journal, [known(engine, stopped), known(engine, paused)]) as still:
        assert all(change.action == "claim" for change in journal.changes)
    assert not any(each.held for each in still.end().containers)
    assert state(engine, stopped) == "exited"
    assert state(engine, paused) == "paused"


def test_error_inside_wakes_the_containers(
    engine: Engine, journal: Journal, start_container: StartContainer
) -> None:
    """What fails while containers stand still does not leave them so."""
    container = start_container("sleep 600")
    with pytest.raises(ZeroDivisionError), quiet(engine, journal, [known(engine, container)]):
        raise ZeroDivisionError
    assert state(engine, container) == "running"


def test_container_removed_meanwhile_is_no_error(
    engine: Engine, journal: Journal, start_container: StartContainer
) -> None:
    """E5: a container that is gone at the end, or was gone at the start, needs no waking."""
    container = start_container("sleep 600")
    before = known(engine, container)
    with quiet(engine, journal, [before]):
        engine.api.remove_container(container, force=True)
    with quiet(engine, journal, [before]) as still:
        pass
    assert still.end().containers == ()
    assert journal.changes == ()


def test_failure_with_one_wakes_the_others(
    engine: Engine,
    journal: Journal,
    start_container: StartContainer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where one cannot be paused, those paused before it go on, and the error names it."""
    first, second = start_container("sleep 600"), start_container("sleep 600")
    containers = [known(engine, first), known(engine, second)]
    pause = engine.api.pause
    monkeypatch.setattr(engine.api, "pause", lambda c: pause("no-such" if c == second else c))
    with (
        pytest.raises(QuiesceFailed, match=containers[1].name),
        quiet(engine, journal, containers),
    ):
        pytest.fail("not all are still")
    assert [state(engine, container) for container in (first, second)] == ["running", "running"]
    assert journal.changes == ()


def test_container_that_does_not_wake_is_named_and_kept(
    engine: Engine,
    journal: Journal,
    start_container: StartContainer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After some tries the error says what to type; the journal keeps it, and recovery wakes it."""
    container = start_container("sleep 600")
    found = known(engine, container)
    monkeypatch.setattr("backupd.engine.quiesce.Patience", lambda **_: Patience(refused_seconds=0.0))
    unpause = engine.api.unpause
    monkeypatch.setattr(engine.api, "unpause", lambda _: unpause("no-such"))
    with pytest.raises(QuiesceFailed, match=found.name) as caught, quiet(engine, journal, [found]):
        pass
    assert str(caught.value.hint).startswith(f"wake it by hand: docker unpause {found.name};")
    assert f"/freezer/docker/{container}/freezer.state" in str(caught.value.hint)
    assert [change.container for change in journal.changes if change.action == "pause"] == [container]
    monkeypatch.undo()
    assert recover(engine, journal) == (found.name,)
    assert state(engine, container) == "running"


def test_second_quiet_of_a_container_waits_for_the_first(
    engine: Engine, journal: Journal, start_container: StartContainer
) -> None:
    """Two volumes of one container in backup at once: the second has it when the first has ended."""
    container = start_container("sleep 600")
    found = known(engine, container)
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        waits.set()
        with quiet(engine, journal, [found]):
            order.append("second in")

    thread = threading.Thread(target=second)
    with quiet(engine, journal, [found]):
        thread.start()
        assert waits.wait(60)
        order.append("first out")
    thread.join(60)
    assert not thread.is_alive()
    assert order == ["first out", "second in"]
    assert state(engine, container) == "running"


def test_waiting_for_another_quiet_can_be_cancelled(
    engine: Engine, journal: Journal, start_container: StartContainer
) -> None:
    """E3: who waits has touched nothing and leaves at once."""
    found, cancel = known(engine, start_container("sleep 600")), threading.Event()
    with quiet(engine, journal, [found]):
        cancel.set()
        with pytest.raises(Interrupted), quiet(engine, journal, [found], cancel=cancel):
            pytest.fail("the first one still holds it")
        assert state(engine, found.id) == "paused"
    assert journal.changes == ()


CRASHER = """
import os, sys
from pathlib import Path
from backupd.engine.client import Engine
from backupd.engine.journal import Journal
from tests.docker.quiet.calm import known, quiet
engine = Engine.connect(sys.argv[1] or None)
with quiet(engine, Journal(Path(sys.argv[2])), [known(engine, sys.argv[3])]):
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
            cwd=Path(__file__).parents[3],
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
    crasher: Callable[[str], subprocess.Popen[str]],
) -> None:
    """E1: killed with -9 after the pause; the next start wakes the container, once."""
    container = start_container("sleep 600")
    _kill(crasher(container))
    assert state(engine, container) == "paused"
    assert recover(engine, journal) == (known(engine, container).name,)
    assert state(engine, container) == "running"
    assert recover(engine, journal) == ()
    assert journal.changes == ()


def test_living_process_keeps_its_containers_still(
    engine: Engine,
    journal: Journal,
    start_container: StartContainer,
    crasher: Callable[[str], subprocess.Popen[str]],
) -> None:
    """Recovery wakes nothing of a process that lives, and a quiet beside it waits for that one's end."""
    container = start_container("sleep 600")
    process = crasher(container)
    assert recover(engine, journal) == ()
    inside, cancel = threading.Event(), threading.Event()

    def beside() -> None:
        with quiet(engine, journal, [known(engine, container)], cancel=cancel):
            inside.set()

    thread = threading.Thread(target=beside)
    thread.start()
    assert state(engine, container) == "paused"
    assert not inside.is_set()
    process.communicate(timeout=60)
    assert inside.wait(60)
    thread.join(60)
    assert state(engine, container) == "running"


def test_recovery_leaves_who_was_woken_by_hand(
    engine: Engine,
    journal: Journal,
    start_container: StartContainer,
    crasher: Callable[[str], subprocess.Popen[str]],
) -> None:
    """E1: somebody was faster, or the container is gone: nothing to do, nothing said."""
    woken, removed = start_container("sleep 600"), start_container("sleep 600")
    for process in [crasher(container) for container in (woken, removed)]:
        _kill(process)
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
    engine: Engine, journal: Journal, make_volume: MakeVolume, start_container: StartContainer
) -> None:
    """E1: no record, no pause."""
    container = start_container("sleep 600", make_volume())
    with Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), journal._descriptor)
        with (
            pytest.raises(Exception, match="cannot write the journal"),
            quiet(engine, journal, [known(engine, container)]),
        ):
            pytest.fail("paused without a record")
    assert state(engine, container) == "running"
