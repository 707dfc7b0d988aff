"""`backupd compose` and `backupd docker` with real compose: nothing protected goes unsaved."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.engine.client import Engine
from backupd.guard.argv import docker
from backupd.operations.lock import volume_lock
from tests.docker.program import PATIENCE_SECONDS, Program
from tests.docker.stack import PROTECTED, Stack, stack_of

pytestmark = pytest.mark.docker

_SPELLINGS = (
    "-v",
    "--volumes",
    "--volume",
    "-v=true",
    "-v=false",
    "--volumes=F",
    "--volumes=1",
    "-vt 1",
    "-vt1",
    "-t 1 -v",
    "-t1",
    "app -v",
    "-v app",
    "-- app",
    "--remove-orphans --volumes=T -t=1",
)
_INSIDE = 'mount --bind "$1" /etc/hostname && shift && exec "$@"'


@pytest.fixture
def program(engine: Engine, tmp_path: Path) -> Iterator[Program]:
    """A program with a repository."""
    made = Program(engine, tmp_path)
    made.run("init")
    yield made
    assert made.helpers() == []


@pytest.fixture
def stack(program: Program) -> Iterator[Stack]:
    """A project with a database that runs, its volume protected."""
    with stack_of(program) as made:
        made.up()
        yield made


@pytest.fixture
def light(program: Program) -> Iterator[Stack]:
    """A project of which `app` runs, with a file in the volume that is protected; no database."""
    with stack_of(program, data="", files=PROTECTED) as made:
        made.compose("up", "-d", "--no-deps", "app")
        made.compose("exec", "-T", "app", "sh", "-c", "echo kept > /files/kept")
        yield made


def test_down_v_saves_the_stopped_database_first_and_every_row_comes_back(stack: Stack) -> None:
    """The snapshot is of a database that was shut down; what the command prints at the end brings it back."""
    stack.write_rows(500)
    before = stack.rows()
    said = stack.guarded("down", "-v")
    assert stack.volumes() == set()
    assert f"NOT SAVED:   {stack.files}" in said
    [snapshot] = stack.snapshots()
    assert snapshot["consistency"] == "clean-stop"
    assert f"{stack.data}: snapshot {snapshot['snapshot']}, read back whole" in said
    assert f"backupd restore --project {stack.name}" in said

    stack.backupd("restore", "--project", stack.name)
    stack.up()
    assert stack.rows() == before


def test_down_v_of_one_service_saves_what_the_others_use_too(stack: Stack) -> None:
    """Compose tries to remove every volume; one that stays in use is saved all the same, and stays."""
    stack.write_rows(20)
    said = stack.guarded("down", "-v", "app")
    assert stack.volumes() == {stack.data}
    assert f"volume {stack.data} is still there" in said
    assert [each["consistency"] for each in stack.snapshots()] == ["crash-consistent"]
    assert stack.running() == {"db"}


def test_a_storage_that_is_away_keeps_everything_as_it_was(light: Stack) -> None:
    """G1: exit 1 with the reason and the way out, before anything is stopped."""
    storage = light.program.directory / "storage"
    storage.rename(storage.with_name("away"))
    said = light.guarded("down", "-v", code=1)
    assert "backupd: nothing was removed: " in said
    assert "backupd init" in said
    assert "--force-without-backup" in said
    assert "Stopping" not in said
    assert light.volumes() == {light.data, light.files}
    assert light.running() == {"app"}


def test_a_backup_that_fails_lets_run_again_what_ran(stack: Stack) -> None:
    """G1: the services were stopped for it; those that ran run again, and one that was stopped does not."""
    stack.compose("stop", "app")
    (stack.program.directory / "storage" / "snapshots").write_text("not a directory", encoding="utf-8")
    said = stack.guarded("down", "-v", code=1)
    assert f"volume {stack.data} could not be saved" in said
    assert "running again:" in said
    assert stack.volumes() == {stack.data, stack.files}
    assert stack.running() == {"db"}


def test_force_without_backup_says_what_it_means_and_does_it(light: Stack) -> None:
    """The override works without a storage, and names what is lost."""
    storage = light.program.directory / "storage"
    storage.rename(storage.with_name("away"))
    said = light.guarded("down", "-v", "--force-without-backup")
    assert f"what {light.files} hold since their last snapshot is lost for good" in said
    assert light.volumes() == set()


def test_force_without_backup_is_the_way_out_of_settings_in_error_too(light: Stack) -> None:
    """Without it exit 1 and nothing removed; with it docker runs, and says that nobody looked."""
    light.program.add_settings("nonsense = 1\n")
    assert "nothing was removed" in light.guarded("down", "-v", code=1)
    assert light.volumes() == {light.data, light.files}
    assert "nobody has looked at what goes" in light.guarded("down", "-v", "--force-without-backup")
    assert light.volumes() == set()


def test_what_takes_no_volume_is_docker_itself(light: Stack) -> None:
    """Output, exit code and words pass unchanged, also where backupd has no settings to go by."""
    unusable = {"BACKUPD_CONFIG": "/nonexistent"}
    assert "app" in light.guarded("ps", "--services", extra=unusable)
    light.guarded("exec", "-T", "app", "sh", "-c", "exit 7", code=7)
    light.guarded("down")
    assert light.volumes() == {light.data, light.files}
    assert light.snapshots(light.files) == []


def test_two_at_once_save_once_and_remove_once(stack: Stack) -> None:
    """One waits for the other's snapshot; whatever the order, the volume is saved and then gone."""
    stack.write_rows(50)
    both = [stack.begin("down", "-v") for _ in range(2)]
    said = [process.communicate(timeout=4 * PATIENCE_SECONDS)[0].decode() for process in both]
    # Compose itself may fail at what the other has just removed; it is never both.
    assert 0 in [process.returncode for process in both], said
    stack.guarded("down", "-v")  # where one of them read the volume while the other removed it
    assert stack.volumes() == set()
    assert stack.snapshots()
    stack.backupd("restore", "--project", stack.name)
    stack.up()
    assert stack.rows() == "50|1275"


def test_an_interrupt_leaves_everything_and_starts_what_ran(light: Stack) -> None:
    """Ctrl-C while it waits for its turn to save: exit 130, volumes there, services running."""
    with volume_lock(light.program.directory / "state", light.files):
        process = light.begin("down", "-v")
        try:
            deadline = time.monotonic() + 4 * PATIENCE_SECONDS
            while light.running():
                assert time.monotonic() < deadline
            process.send_signal(signal.SIGINT)
        except BaseException:
            process.kill()
            raise
        said = process.communicate(timeout=4 * PATIENCE_SECONDS)[0].decode()
    assert process.returncode == 130, said
    assert "running again:" in said
    assert light.volumes() == {light.data, light.files}
    assert light.running() == {"app"}


def test_a_volume_that_docker_removes_is_saved_first(light: Stack) -> None:
    """`docker volume rm`, with the project's containers gone."""
    light.compose("down")
    said = light.backupd("docker", "volume", "rm", light.files)
    assert light.volumes() == {light.data}
    assert f"backupd restore --project {light.name}" in said
    assert len(light.snapshots(light.files)) == 1


def test_a_failing_docker_is_passed_on(light: Stack) -> None:
    """The volume is in use: docker's words, its exit code, and the volume stays."""
    said = light.backupd("docker", "volume", "rm", light.files, code=1)
    assert "volume is in use" in said
    assert f"volume {light.files} is still there" in said
    assert light.running() == {"app"}


def test_a_snapshot_is_taken_once_where_nothing_was_written_since(light: Stack) -> None:
    """The newest one is read back again; and not taken for what is there once a container has mounted it."""
    light.compose("stop")
    light.backupd("guard", "preflight", light.files)
    first = [each["snapshot"] for each in light.snapshots(light.files)]
    assert len(first) == 1
    light.backupd("guard", "preflight", light.files)
    # On an engine with much to remember, the memory may not reach back: then one more is taken.
    assert first[0] in [each["snapshot"] for each in light.snapshots(light.files)]
    light.compose("start", "app")
    light.compose("exec", "-T", "app", "sh", "-c", "echo new > /files/new")
    light.compose("stop")
    light.backupd("guard", "preflight", light.files)
    newest = light.snapshots(light.files)[-1]["snapshot"]
    assert "./new" in light.backupd("show", newest)


def test_damage_to_what_was_stored_is_found_before_anything_goes(light: Stack) -> None:
    """What was saved is read back from the storage: a snapshot that cannot be restored is no snapshot."""
    light.compose("stop")
    light.backupd("guard", "preflight", light.files)
    packs = list((light.program.directory / "storage" / "packs").rglob("*.pack"))
    assert packs
    for pack in packs:
        pack.chmod(0o600)
        # As long as before: what is only as long as it should be is believed by who writes.
        pack.write_bytes(bytes(byte ^ 0xFF for byte in pack.read_bytes()))
    said = light.guarded("down", "-v", code=1)
    assert "nothing was removed" in said
    assert light.volumes() == {light.data, light.files}


def test_a_project_that_is_known_by_its_labels_only(light: Stack, tmp_path: Path) -> None:
    """`-p` without a compose file, in an empty directory: what the engine has of the project is saved."""
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        light.program.command("compose", "-p", light.name, "down", "-v"),
        cwd=empty,
        env=light.environment,
        capture_output=True,
        timeout=4 * PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert light.volumes() == set()
    assert len(light.snapshots(light.files)) == 1


def test_another_engine_is_refused(light: Stack) -> None:
    """Docker is told to talk to an engine that backupd does not watch: nothing is removed anywhere."""
    said = light.backupd("docker", "-H", "unix:///nonexistent.sock", "volume", "rm", light.files, code=1)
    assert "docker cannot reach its engine" in said
    if second := os.environ.get("TESTS_SECOND_ENGINE"):
        other = "unix:///var/run/docker.sock" if f"unix://{light.program.engine.socket}" == second else second
        said = light.backupd("docker", "-H", other, "volume", "rm", light.files, code=1)
        assert "docker talks to another engine" in said
    assert light.volumes() == {light.data, light.files}


def test_a_volume_that_backupd_takes_for_its_own_is_refused(light: Stack) -> None:
    """I6: right or wrong, what this process believes to keep its own data in does not go, even by force.

    The process sees the mount of a container's own /etc/hostname, as it would inside that container.
    """
    container = light.compose("ps", "-q", "app").strip()
    hostname = light.program.engine.api.inspect_container(container)["HostnamePath"]
    for words in (["down", "-v"], ["down", "-v", "--force-without-backup"], ["down", "-v", "app"]):
        command = light.program.command("compose", "-f", str(light.file), *words)
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", _INSIDE, "sh", hostname, *command],
            env=light.environment,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE_SECONDS,
        )
        assert done.returncode == 1, done.stderr
        assert "nothing was removed" in done.stderr
        assert f"volume {light.files} holds backupd's own repository or state" in done.stderr
    assert light.volumes() == {light.data, light.files}
    assert light.running() == {"app"}


def test_labels_that_make_no_sense_are_no_permission(program: Program) -> None:
    """A volume of which nobody can tell whether it is protected does not go."""
    with stack_of(program, data='backupd.enable: "ture"') as stack:
        stack.compose("create")
        said = stack.guarded("down", "-v", code=1)
        assert '"ture" is neither true nor false' in said
        assert stack.has(stack.data)
        stack.guarded("down", "-v", "--force-without-backup")
        assert not stack.has(stack.data)


def test_a_volume_with_the_guard_off_goes_unsaved_and_is_named(program: Program) -> None:
    """`backupd.guard=off`: protected by schedule, let go without a snapshot."""
    with stack_of(program, data=PROTECTED + ', backupd.guard: "off"') as stack:
        stack.compose("create")
        said = stack.guarded("down", "-v")
        assert f"NOT SAVED:   {stack.data} (backupd.guard is off" in said
        assert stack.volumes() == set()
        assert stack.snapshots() == []


def test_what_compose_itself_would_remove_is_what_the_words_say(light: Stack) -> None:
    """Its own dry run is the judge of every spelling."""
    for words in _SPELLINGS:
        said = light.compose("--dry-run", "down", *words.split())
        removes = re.search(rf"Volume {light.files} +Remov", said) is not None
        assert docker(["compose", "down", *words.split()]).removal.project == removes, (words, said)


def test_signals_are_for_docker_while_it_runs(light: Stack, tmp_path: Path) -> None:
    """Something unprotected goes, so backupd stays; an interrupt reaches compose, which stops in order."""
    override = tmp_path / "override.yaml"
    override.write_text("services: {app: {volumes: [/scratch]}}", encoding="utf-8")
    light.compose("-f", str(override), "up", "-d", "--no-deps", "app")
    said: list[str] = []
    with light.begin("-f", str(override), "up", "-V", "--no-deps", "app") as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said.append(line.decode())
                if "Attaching" in said[-1]:
                    process.send_signal(signal.SIGINT)
            process.wait(4 * PATIENCE_SECONDS)  # with a code of compose's choice: it has several for this
        except BaseException:
            process.kill()
            raise
        finally:
            light.compose("-f", str(override), "down", "-v")
    assert any("NOT SAVED" in line for line in said)
    assert not any(line.startswith("backupd:") for line in said), said
    assert any("Stopped" in line for line in said), said
