"""The engine goes away while containers are calmed; it is one that the test has to itself."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.engine.client import Engine
from backupd.engine.helper import export
from backupd.engine.image import HelperImage
from backupd.engine.journal import Journal
from backupd.engine.quiesce import Patient, recover
from backupd.errors import EngineError
from backupd.treatment import Hook, Treatment
from tests.docker.conftest import SHELL_IMAGE
from tests.docker.own_engine import OwnEngine, make, why_not
from tests.docker.quiet.calm import quiet_of
from tests.docker.quiet.conftest import Stage

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(900),
    # docker-py leaks the socket of a connection that is refused
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

ALWAYS = {"restart_policy": {"Name": "always"}}
UNLESS_STOPPED = {"restart_policy": {"Name": "unless-stopped"}}


@pytest.fixture(scope="module")
def own() -> Iterator[OwnEngine]:
    """An engine that may be killed."""
    if reason := why_not("system"):
        pytest.skip(reason)
    engine = make("system")
    try:
        engine.start()
        engine.load(SHELL_IMAGE)
        yield engine
    finally:
        engine.remove()


@pytest.fixture
def stage(own: OwnEngine) -> Iterator[Stage]:
    """Containers on it."""
    connection = Engine.connect(own.host)
    made = Stage(connection)
    yield made
    made.remove()
    connection.close()
    gc.collect()


def test_engine_that_dies_in_the_middle_leaves_nothing_down(
    stage: Stage, own: OwnEngine, journal: Journal
) -> None:
    """E10: the run fails; once the engine is back what was stopped is started, whatever its restart policy.

    Who was paused is for the engine to start again, which its death has killed.
    """
    volume = f"{stage.project}-data"
    stage.engine.api.create_volume(volume)
    paused = stage.start(volume=volume, host=UNLESS_STOPPED)
    stopped, kept_up = stage.start(host=UNLESS_STOPPED), stage.start(host=ALWAYS)
    once = stage.start()
    stop = Treatment("stop", post=(Hook(("touch", "/tmp/post")),))
    patients = [Patient(paused, Treatment("pause"))]
    patients += [Patient(each, stop) for each in (stopped, kept_up, once)]
    still = quiet_of(stage.engine, journal, lambda: patients)
    image = HelperImage(SHELL_IMAGE, "gnu", "1")
    back = threading.Thread(target=own.start)

    def read_while_it_dies() -> None:
        with export(stage.engine, volume, image, instance="backupd-test", run=stage.project) as output, still:
            output.begin()
            own.kill()
            back.start()
            while output.readinto(memoryview(bytearray(1 << 20))):
                pass

    with pytest.raises(EngineError):
        read_while_it_dies()
    back.join(120)
    assert [stage.status(each) for each in (stopped, kept_up, once)] == ["running"] * 3
    assert stage.status(paused) != "paused"
    assert stage.has(once, "/tmp/post")
    assert journal.changes == ()


def test_both_die_and_the_next_start_brings_everything_back(
    stage: Stage, own: OwnEngine, journal: Journal, tmp_path: Path
) -> None:
    """E1, E2, E10: what is recorded is started, exactly that."""
    paused, stopped = stage.start(host=UNLESS_STOPPED), stage.start(host=UNLESS_STOPPED)
    down = stage.start("exit 0")
    stage.engine.api.wait(down.id)
    patients = [Patient(paused, Treatment("pause")), Patient(stopped, Treatment("stop"))]
    dead = Journal(tmp_path / "dead")
    still = quiet_of(stage.engine, dead, lambda: patients)
    with still:
        journal.record(*dead.changes)
        still.keep()
        stage.engine.api.unpause(paused.id)
        own.restart()
    dead.close()
    assert recover(stage.engine, journal) == (stopped.name,)
    assert [stage.status(each) for each in (paused, stopped, down)] == ["running", "running", "exited"]
    assert journal.changes == ()
