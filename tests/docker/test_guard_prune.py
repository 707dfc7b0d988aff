"""Pruning, on engines of the test's own: nothing protected goes unsaved, whatever the filters."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.engine.client import Engine
from backupd.engine.hold import hold, holds
from backupd.engine.image import HelperImage
from tests.docker.own_engine import OwnEngine, own_engine
from tests.docker.program import PATIENCE_SECONDS, Program

pytestmark = pytest.mark.docker

__all__ = ["own_engine"]

IMAGE = "alpine:3.22"
LABEL = "backupd.enable=true"


@pytest.fixture
def program(own_engine: OwnEngine, tmp_path: Path) -> Iterator[Program]:
    """A program for that engine, on which nothing is left afterwards."""
    own_engine.load(IMAGE)
    engine = Engine.connect(own_engine.host)
    made = Program(engine, tmp_path)
    made.add_settings(f'[helper]\nimage = "{IMAGE}"\n')
    made.run("init")
    yield made
    for container in engine.api.containers(all=True):
        engine.api.remove_container(container["Id"], force=True, v=True)
    for volume in own_engine.volumes():
        engine.api.remove_volume(volume, force=True)
    engine.close()


@pytest.fixture
def volumes(program: Program, own_engine: OwnEngine) -> tuple[str, str, str]:
    """Three volumes with a file each: one that nobody refers to, one of a stopped container, one in use."""
    loose, stopped, used = (f"{program.name}-{each}" for each in ("loose", "stopped", "used"))
    for name in (loose, stopped, used):
        own_engine.docker("volume", "create", "--label", LABEL, name)
        own_engine.docker(
            *("run", "--network", "none", "-v", f"{name}:/v", "--name", name, IMAGE),
            *("sh", "-c", f"echo {name} > /v/name"),
        )
    own_engine.docker("rm", loose)
    own_engine.docker("rm", used)
    own_engine.docker(
        "run", "-d", "--network", "none", "--name", used, "-v", f"{used}:/v", IMAGE, "sleep", "600"
    )
    return loose, stopped, used


def guarded(program: Program, own_engine: OwnEngine, *words: str, code: int = 0) -> str:
    """What `backupd docker` prints."""
    done = subprocess.run(
        program.command("docker", *words),
        env=own_engine.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=4 * PATIENCE_SECONDS,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def test_volume_prune_saves_what_nothing_refers_to(
    program: Program, own_engine: OwnEngine, volumes: tuple[str, str, str]
) -> None:
    """The others neither go nor are saved."""
    loose, stopped, used = volumes
    said = guarded(program, own_engine, "volume", "prune", "--force", "--filter", "label=backupd.enable")
    assert f"saved first: {loose}" in said
    assert len(program.snapshots(loose)) == 1
    assert program.snapshots(stopped) == program.snapshots(used) == []
    assert {stopped, used} <= own_engine.volumes()
    if loose not in own_engine.volumes():
        assert f"backupd restore {loose}" in said


def test_system_prune_saves_what_only_stopped_containers_use(
    program: Program, own_engine: OwnEngine, volumes: tuple[str, str, str]
) -> None:
    """Containers go first, then volumes: three at once, all saved that can go."""
    loose, stopped, used = volumes
    guarded(program, own_engine, "system", "prune", "--volumes", "--force")
    assert len(program.snapshots(loose)) == len(program.snapshots(stopped)) == 1
    assert program.snapshots(used) == []
    assert used in own_engine.volumes()


def test_a_storage_that_is_away_keeps_all_of_them(
    program: Program, own_engine: OwnEngine, volumes: tuple[str, str, str]
) -> None:
    """G1."""
    storage = program.directory / "storage"
    storage.rename(storage.with_name("away"))
    said = guarded(program, own_engine, "volume", "prune", "--force", "--all", code=1)
    assert "nothing was removed" in said
    assert set(volumes) <= own_engine.volumes()


def test_pruning_containers_removes_what_holds_and_no_volume(
    program: Program, own_engine: OwnEngine, volumes: tuple[str, str, str]
) -> None:
    """Which is why the daemon makes it again; a prune of volumes passes over what is held."""
    loose, stopped, _ = volumes
    hold(program.engine, loose, HelperImage(IMAGE, "busybox", "1.35.0"), instance=program.name)
    guarded(program, own_engine, "volume", "prune", "--force", "--filter", "label=backupd.enable")
    assert loose in own_engine.volumes()
    assert program.snapshots(loose) == []
    own_engine.docker("container", "prune", "--force")
    assert holds(program.engine) == ()
    assert {loose, stopped} <= own_engine.volumes()
