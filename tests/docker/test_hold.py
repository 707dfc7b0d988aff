"""Volumes that are held: no client removes them, until they are released."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker.errors import APIError

from backupd.engine import labels
from backupd.engine.client import Engine
from backupd.engine.discovery import survey
from backupd.engine.hold import hold, holds, let_go
from backupd.engine.image import HelperImage
from backupd.engine.journal import Journal
from backupd.engine.reap import reap
from backupd.errors import VolumeNotFound
from backupd.operations.hold import Keeper, release
from backupd.protection import Policy, Protection
from backupd.retention import Retention
from tests.docker.conftest import MakeVolume
from tests.docker.program import Program
from tests.docker.stack import HELD, Stack, stack_of

pytestmark = pytest.mark.docker

POLICY = Policy(schedule="@yearly", quiesce="pause", exclude=(), retention=Retention(last=1), guard="hold")


@pytest.fixture
def program(engine: Engine, tmp_path: Path) -> Program:
    """A program with a repository."""
    made = Program(engine, tmp_path)
    made.run("init")
    return made


@pytest.fixture
def stack(program: Program) -> Iterator[Stack]:
    """A project with a volume that is to be held, and with files in it; nothing runs."""
    with stack_of(program, data=HELD) as made:
        made.compose("create")
        yield made


def held(engine: Engine, volume: str) -> bool:
    return any(each.volume == volume for each in holds(engine))


def keeper(engine: Engine, image: HelperImage, state_dir: Path, volume: str) -> Callable[[], None]:
    """Keeps that one volume held, as the daemon does on each look."""
    kept = Keeper(engine, lambda: image, instance=f"test-{volume}", state_dir=state_dir)

    def keep() -> None:
        seen = survey(engine)
        kept.keep(seen, [Protection(v, POLICY, "test") for v in seen.volumes if v.name == volume])

    return keep


def test_a_held_volume_cannot_be_removed_until_it_is_let_go(
    engine: Engine, make_volume: MakeVolume, gnu: HelperImage
) -> None:
    """The engine says 409 to everybody; afterwards it goes."""
    name = make_volume()
    hold(engine, name, gnu, instance="test")
    with pytest.raises(APIError) as refused:
        engine.api.remove_volume(name, force=True)
    assert refused.value.status_code == 409
    assert let_go(engine, name)
    assert not let_go(engine, name)
    engine.api.remove_volume(name)


def test_a_hold_makes_no_volume(engine: Engine, gnu: HelperImage) -> None:
    """I20: a name that does not exist is an error, and stays a name that does not exist."""
    with pytest.raises(VolumeNotFound):
        hold(engine, "backupd-test-no-such-volume", gnu, instance="test")
    assert "backupd-test-no-such-volume" not in {volume.name for volume in survey(engine).volumes}


def test_what_holds_is_nobodys_container(
    engine: Engine, make_volume: MakeVolume, gnu: HelperImage, journal: Journal
) -> None:
    """No user of the volume to quiesce or stop, no helper to reap, no part of any project."""
    name = make_volume()
    hold(engine, name, gnu, instance=name)
    seen = survey(engine)
    assert seen.users(name) == ()
    assert name in seen.held
    assert reap(engine, name, journal) == ()
    [container] = [each for each in holds(engine) if each.volume == name]
    assert container.name == f"backupd-hold-{name}"
    made = engine.api.inspect_container(container.container)
    assert made["State"]["Status"] == "created"
    assert not [label for label in made["Config"]["Labels"] if label.startswith("com.docker.compose")]


def test_a_container_that_says_it_holds_and_runs_is_somebodys(
    engine: Engine, make_volume: MakeVolume, gnu: HelperImage
) -> None:
    """A label alone hides no writer from a backup."""
    name = make_volume()
    made = engine.api.create_container(
        gnu.reference,
        ["sleep", "600"],
        labels={labels.HOLD: name},
        host_config=engine.api.create_host_config(binds=[f"{name}:/v"], network_mode="none"),
    )
    engine.api.start(made["Id"])
    assert [user.id for user in survey(engine).users(name)] == [made["Id"]]
    assert not held(engine, name)
    assert not let_go(engine, name)


def test_a_hold_that_was_pruned_is_made_again(
    engine: Engine, make_volume: MakeVolume, gnu: HelperImage, tmp_path: Path
) -> None:
    """On each look; and not once the volume was released, until it is another volume of that name."""
    name = make_volume()
    keep = keeper(engine, gnu, tmp_path, name)
    keep()
    [first] = [each for each in holds(engine) if each.volume == name]
    engine.api.remove_container(first.container)
    keep()
    [second] = [each for each in holds(engine) if each.volume == name]
    assert second.container != first.container

    assert release(engine, name, state_dir=tmp_path)
    keep()
    assert not held(engine, name)
    engine.api.remove_volume(name)
    keep()
    engine.api.create_volume(name, labels={"backupd.test": "true"})
    keep()
    assert held(engine, name)


def test_compose_cannot_take_a_held_volume_and_calls_it_no_orphan(stack: Stack, gnu: HelperImage) -> None:
    """`docker compose down -v` by itself: everything goes but the volume, and it says why."""
    engine = stack.program.engine
    hold(engine, stack.data, gnu, instance=stack.program.name)
    said = stack.compose("down", "-v", "--remove-orphans")
    assert "in use" in said
    assert stack.volumes() == {stack.data}
    assert held(engine, stack.data)
    assert "backupd-hold" not in stack.compose("ps", "-a")
    stack.compose("create")


def test_release_saves_and_lets_go(stack: Stack, gnu: HelperImage) -> None:
    """A last snapshot, read back; without it only where that is said."""
    engine = stack.program.engine
    hold(engine, stack.data, gnu, instance=stack.program.name)
    [line] = [each for each in stack.program.json("hold") if each["volume"] == stack.data]
    assert line["state"] == "held"
    said = stack.backupd("release", stack.data)
    [snapshot] = stack.snapshots()
    assert f"{stack.data} is held no more; snapshot {snapshot['snapshot']}" in said
    assert not held(engine, stack.data)
    [line] = [each for each in stack.program.json("hold") if each["volume"] == stack.data]
    assert line["state"] == "released"
    stack.backupd("hold", "--on")
    [line] = [each for each in stack.program.json("hold") if each["volume"] == stack.data]
    assert line["state"] == "waits for the daemon"
    assert "NOT SAVED" in stack.backupd("release", stack.data, "--no-backup")
    assert len(stack.snapshots()) == 1


def test_release_without_a_storage_lets_nothing_go(stack: Stack, gnu: HelperImage) -> None:
    """G1: held as before."""
    engine = stack.program.engine
    hold(engine, stack.data, gnu, instance=stack.program.name)
    storage = stack.program.directory / "storage"
    storage.rename(storage.with_name("away"))
    stack.backupd("release", stack.data, code=1)
    assert held(engine, stack.data)
    storage.with_name("away").rename(storage)
    (storage / "snapshots").write_text("not a directory", encoding="utf-8")
    assert f"{stack.data} is not released" in stack.backupd("release", stack.data, code=1)
    assert held(engine, stack.data)


def test_hold_off_lets_go_of_all(stack: Stack, gnu: HelperImage) -> None:
    """Those of this installation; another one's stay."""
    engine = stack.program.engine
    hold(engine, stack.data, gnu, instance=stack.program.name)
    hold(engine, stack.files, gnu, instance="somebody-else")
    stack.backupd("hold", "--off")
    assert not held(engine, stack.data)
    assert held(engine, stack.files)


def test_the_wrapper_lets_go_of_what_it_has_saved(stack: Stack, gnu: HelperImage) -> None:
    """`backupd compose down -v`: saved, released, removed; a refused one stays held."""
    engine = stack.program.engine
    hold(engine, stack.data, gnu, instance=stack.program.name)
    storage = stack.program.directory / "storage"
    storage.rename(storage.with_name("away"))
    stack.guarded("down", "-v", code=1)
    assert held(engine, stack.data)
    storage.with_name("away").rename(storage)
    said = stack.guarded("down", "-v")
    assert f"{stack.data} (backupd.enable=true on volume {stack.data}); used by" in said
    assert stack.volumes() == set()
    assert len(stack.snapshots()) == 1
    assert not (stack.program.directory / "state" / "released" / stack.data).exists()
