"""A process that is killed while it calms containers: the next one brings everything back as it was."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from backupd.engine.client import Engine
from backupd.engine.journal import Journal
from backupd.engine.quiesce import recover
from backupd.volume import Container
from tests.docker.quiet.calm import quiet, wait_for
from tests.docker.quiet.conftest import OBEDIENT, Stage
from tests.docker.quiet.test_hooks import DURATION, hangs

pytestmark = pytest.mark.docker

STEPS_MAX = 60
ROOT = Path(__file__).parents[3]

Killed = Callable[..., str | None]


@pytest.fixture
def killed(engine: Engine, tmp_path: Path) -> Killed:
    """Run a stepper and kill it after a step: that step's name, or None where it has come to its end."""

    def run(step: int, **treatments: Container) -> str | None:
        words = [f"{container.id}={treatment}" for treatment, container in treatments.items()]
        host = f"unix://{engine.socket}"
        command = (sys.executable, "-m", "tests.docker.quiet.stepper", host, str(tmp_path / "journal"))
        with subprocess.Popen(
            [*command, str(step), *words], stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as process:
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                process.returncode = os.waitstatus_to_exitcode(status)
                assert process.returncode == 0
                return None
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout
            return process.stdout.read().strip()

    return run


@pytest.mark.timeout(1500)
def test_killed_after_any_step_everything_comes_back_as_it_was(
    stage: Stage, journal: Journal, killed: Killed
) -> None:
    """E1, E2, E4, E6: kill -9 after every write to the journal and every call that changes something.

    The paused one runs on, the stopped one is started, the post hook of the third has run, and who was down
    or paused before still is.
    """
    paused, stopped, hooked = stage.start(), stage.start(), stage.start()
    down, frozen = stage.start("exit 0"), stage.start()
    stage.engine.api.wait(down.id)
    stage.engine.api.pause(frozen.id)
    untouched = [stage.inspect(each)["StartedAt"] for each in (paused, hooked, down, frozen)]
    names = []
    for step in itertools.count(1):
        assert step < STEPS_MAX
        name = killed(step, hooks=hooked, stop=stopped, pause=paused)
        if name is None:
            break
        names.append(name)
        recover(stage.engine, journal)
        states = [stage.status(each) for each in (paused, stopped, hooked, down, frozen)]
        assert states == ["running", "running", "running", "exited", "paused"], (step, names)
        assert not stage.has(hooked, "/tmp/flag"), (step, names)
        assert [stage.inspect(each)["StartedAt"] for each in (paused, hooked, down, frozen)] == untouched
        assert journal.changes == ()
    assert {"record", "erase", "pause", "unpause", "stop", "start", "exec_create", "__init__"} <= set(names)


def test_stop_that_is_under_way_when_its_caller_dies_is_undone_when_it_is_over(
    stage: Stage, journal: Journal, killed: Killed
) -> None:
    """E2: the engine goes on stopping; recovery waits for that, else the container would stay down."""
    slow = stage.start(OBEDIENT.replace("exit 0", "touch /tmp/stopping; sleep 4; exit 0"), stop_timeout=60)
    before = stage.inspect(slow)["StartedAt"]
    assert killed(2, stop=slow) == "record"
    stop = stage.engine.api.stop
    stopping = threading.Thread(target=lambda: stop(slow.id, timeout=60))
    stopping.start()
    wait_for(lambda: stage.status(slow) != "running" or stage.has(slow, "/tmp/stopping"))
    assert recover(stage.engine, journal) == (slow.name,)
    stopping.join(60)
    assert stage.status(slow) == "running"
    assert stage.inspect(slow)["StartedAt"] != before


def test_hook_that_outlives_its_caller_is_killed_and_the_post_hook_runs(
    stage: Stage, journal: Journal, engine: Engine, tmp_path: Path
) -> None:
    """E8: what hangs after a crash would go on for ever."""
    container = stage.start()
    script = f"""
from pathlib import Path
from backupd.engine.client import Engine
from backupd.engine.journal import Journal
from backupd.treatment import Hook, Treatment
from tests.docker.quiet.calm import known, quiet
engine = Engine.connect("unix://{engine.socket}")
hooked = Treatment("pause", (Hook(("sleep", "{DURATION}")),), (Hook(("touch", "/tmp/post")),))
with quiet(engine, Journal(Path("{tmp_path}/journal")), [known(engine, "{container.id}")], hooked):
    pass
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as process:
        wait_for(lambda: hangs(stage, container))
        process.kill()
    recover(stage.engine, journal)
    assert not hangs(stage, container)
    assert stage.has(container, "/tmp/post")
    assert stage.status(container) == "running"


def test_next_run_brings_back_what_a_dead_one_left(stage: Stage, journal: Journal, killed: Killed) -> None:
    """Another process of the same state directory need not be restarted for it."""
    container = stage.start()
    assert killed(3, pause=container) == "pause"
    assert stage.status(container) == "paused"
    other = stage.start()
    with quiet(stage.engine, journal, [other]):
        assert stage.status(container) == "running"
