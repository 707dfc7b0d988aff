"""Compose puts new containers in the place of those that were calmed."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.engine.client import Engine
from backupd.engine.discovery import survey
from backupd.engine.journal import Journal
from backupd.engine.quiesce import recover
from backupd.errors import QuiesceFailed
from backupd.treatment import Hook, Treatment
from backupd.volume import Container
from tests.docker.conftest import SHELL_IMAGE
from tests.docker.quiet.calm import quiet

pytestmark = pytest.mark.docker

COMPOSE_FILE = f"""
services:
  app:
    image: {SHELL_IMAGE}
    command: sh -c "trap 'exit 0' TERM; while :; do sleep 0.1; done"
    network_mode: none
    labels: {{backupd.test: "true"}}
"""


class Project:
    """A compose project with one service."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        self._name = f"backupd-test-{uuid.uuid4().hex[:8]}"
        self._file = directory / "compose.yaml"
        self._file.write_text(COMPOSE_FILE)

    def compose(self, *words: str) -> None:
        """Run a command of compose."""
        command = ["docker", "compose", "-p", self._name, "-f", str(self._file), *words]
        environment = {**os.environ, "DOCKER_HOST": f"unix://{self.engine.socket}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    @property
    def app(self) -> Container:
        """The service's container of now."""
        [found] = [each for each in survey(self.engine).containers if each.project == self._name]
        return found


@pytest.fixture
def project(engine: Engine, tmp_path: Path) -> Iterator[Project]:
    """One that is up."""
    made = Project(engine, tmp_path)
    try:
        made.compose("up", "-d")
        yield made
    finally:
        made.compose("down", "-t", "0")


@pytest.mark.parametrize("mode", ["pause", "stop"])
def test_new_container_in_the_place_of_the_old_is_not_left_down(
    project: Project, journal: Journal, mode: str
) -> None:
    """E5: recreated and not started; what was stopped is started, and its hooks are run there."""
    before = project.app
    post = (Hook(("touch", "/tmp/post")),)
    with quiet(
        project.engine,
        journal,
        [before],
        Treatment(mode, post=post),  # type: ignore[arg-type]
    ) as still:
        if mode == "stop":
            project.compose("create", "--force-recreate")
        else:
            project.compose("up", "-d", "--force-recreate", "-t", "0")
    assert project.app.id != before.id
    assert project.app.state == "running"
    assert still.end().degraded == ()
    assert journal.changes == ()


def test_new_container_that_was_started_makes_it_fuzzy(project: Project, journal: Journal) -> None:
    """E5: it ran while the volume was read; it is left running."""
    with quiet(project.engine, journal, [project.app], Treatment("stop")) as still:
        project.compose("up", "-d", "--force-recreate")
        running = project.app
    assert still.end().containers[0].consistency == "fuzzy"
    assert project.app == running


def test_recovery_finds_the_new_container(project: Project, journal: Journal, tmp_path: Path) -> None:
    """E2, E5: the process that stopped the old one has died."""
    before = project.app
    dead = Journal(tmp_path / "dead")
    with quiet(project.engine, dead, [before], Treatment("stop")) as still:
        [change] = [change for change in dead.changes if change.action == "stop"]
        journal.record(change)
        still.keep()
    dead.close()
    project.compose("create", "--force-recreate")
    assert recover(project.engine, journal) == (before.name,)
    assert project.app.state == "running"
    assert project.app.id != before.id


def test_container_that_has_gone_altogether_is_told(project: Project, journal: Journal) -> None:
    """E5: nothing is left to start; an alert, and no error."""
    before = project.app
    with quiet(project.engine, journal, [before], Treatment("stop")) as still:
        project.compose("rm", "-f")
    assert still.end().containers[0].warnings == (
        f"container {before.name} was removed while it was stopped for the backup; nothing took its place",
    )
    assert journal.changes == ()


def test_recovery_tells_of_one_that_has_gone(project: Project, journal: Journal) -> None:
    """E5: and does not tell it again."""
    before = project.app
    dead_run = quiet(project.engine, journal, [before], Treatment("stop"))
    with dead_run:
        [change] = [change for change in journal.changes if change.action == "stop"]
        dead_run.keep()
    project.compose("rm", "-f")
    journal.record(change)
    with pytest.raises(QuiesceFailed, match="nothing took its place"):
        recover(project.engine, journal)
    assert recover(project.engine, journal) == ()
