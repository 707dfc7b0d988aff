"""The commands on a real engine, each as a process."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from docker.errors import NotFound

from backupd.engine.client import Engine
from tests.docker.conftest import MakeVolume, RunInVolume, StartContainer
from tests.docker.program import Program

pytestmark = pytest.mark.docker

FILL = "mkdir etc; echo welcome > etc/motd; chown 7:8 etc/motd; ln -s motd etc/link"
LOOK = "cat etc/motd; stat -c '%u:%g %F' etc/motd etc/link"


@pytest.fixture
def program(engine: Engine, tmp_path: Path) -> Iterator[Program]:
    """A program with a repository."""
    made = Program(engine, tmp_path)
    made.run("init")
    yield made
    assert made.helpers() == []


@pytest.fixture
def volume(program: Program, make_volume: MakeVolume, run_in_volume: RunInVolume) -> str:
    """A labelled volume of a compose project with a few files."""
    labels = {"backupd.enable": "true", "com.docker.compose.project": program.name}
    name = make_volume(program.name, labels)
    run_in_volume(name, FILL)
    return name


@pytest.fixture
def new_name(engine: Engine, program: Program) -> Iterator[str]:
    """The name of a volume that does not exist; one that a test makes is removed."""
    name = f"{program.name}-new"
    yield name
    with suppress(NotFound):
        engine.api.remove_volume(name)


def test_snapshot_is_taken_listed_and_shown(program: Program, volume: str) -> None:
    """`backup`, `snapshots`, `volumes` and `show` tell the same story."""
    [outcome] = program.json("backup", volume)
    snapshot = outcome["snapshot"]["snapshot"]
    assert (outcome["volume"], outcome["outcome"]) == (volume, "ok")
    assert program.snapshots(volume) == [snapshot]
    assert snapshot in program.run("snapshots", volume).stdout.decode()
    [line] = [each for each in program.json("volumes") if each["volume"] == volume]
    assert line["protected"]
    assert line["last_snapshot"]
    assert line["next_run"]
    members = program.json("show", snapshot, "etc")
    assert [(each["path"], each["type"]) for each in members] == [
        ("./etc/", "directory"),
        ("./etc/link", "symlink"),
        ("./etc/motd", "file"),
    ]
    assert "./etc/link -> motd" in program.run("show", snapshot).stdout.decode()


def test_closing_line_is_logged_where_there_is_no_terminal(program: Program, volume: str) -> None:
    """A backup ends with one log line that has volume, snapshot, seconds, bytes, new bytes and outcome."""
    done = program.run("backup", volume)
    assert done.stdout == b""
    [*_, line] = [json.loads(text) for text in done.stderr.splitlines() if text.startswith(b"{")]
    assert (line["event"], line["volume"], line["outcome"]) == ("backup finished", volume, "ok")
    assert {"snapshot", "seconds", "bytes", "new_bytes"} <= line.keys()


def test_unprotected_volumes_are_listed(
    program: Program, volume: str, make_volume: MakeVolume, start_container: StartContainer
) -> None:
    """`volumes --unprotected` names what nobody protects, or protects in vain, and what to do."""
    bare, used, refused = (
        make_volume(program.name, labels)
        for labels in ({}, {"backupd.enable": "true"}, {"backupd.enable": "false"})
    )
    start_container("sleep 1000", used)
    found = {each["volume"]: each for each in program.json("volumes", "--unprotected")}
    assert found[bare]["kind"] == "unlabelled"
    assert f'match = "{bare}"' in found[bare]["hint"]
    assert found[volume]["kind"] == "idle"
    assert not {used, refused} & found.keys()
    printed = program.run("volumes", "--unprotected").stdout.decode()
    assert bare in printed
    assert refused not in printed
    assert refused in program.run("volumes").stdout.decode()


def test_unlabelled_volume_is_saved_when_it_is_named(program: Program, make_volume: MakeVolume) -> None:
    """A name is enough for a manual backup; `--all` takes only what is protected."""
    bare = make_volume(program.name)
    assert b"no volume is protected" in program.run("backup", "--all", code=1).stderr
    program.run("backup", bare)
    assert len(program.snapshots(bare)) == 1


def test_failure_of_one_volume_does_not_stop_the_others(
    program: Program, volume: str, make_volume: MakeVolume
) -> None:
    """With one volume in error and one saved the exit code is 3, and each error is told."""
    bad = make_volume(program.name, {"backupd.enable": "true", "backupd.schedule": "31 2 30 2 *"})
    failed = program.run("backup", "--all", code=3)
    assert b"31 2 30 2 *" in failed.stderr
    assert f"1 of 2 volumes failed: {bad}".encode() in failed.stderr
    assert len(program.snapshots(volume)) == 1


def test_a_project_is_saved_in_one_quiet(program: Program, volume: str, make_volume: MakeVolume) -> None:
    """`--project` and names read volumes together, whatever their schedules; `--all` those of a group."""
    project = {"backupd.enable": "true", "com.docker.compose.project": program.name}
    other = make_volume(program.name, {**project, "backupd.schedule": "@hourly"})
    stranger = make_volume(program.name, {"backupd.enable": "true"})

    def windows(*words: str) -> dict[str, list[str]]:
        return {
            each["volume"]: (each["snapshot"].get("window") or {"volumes": [each["volume"]]})["volumes"]
            for each in program.json("backup", *words)
        }

    together = windows("--project", program.name)
    assert together.keys() == {volume, other}
    assert together[volume] == together[other] == sorted([volume, other])
    assert windows(stranger, volume) == {stranger: [stranger, volume], volume: [stranger, volume]}
    assert windows("--all") == {name: [name] for name in (volume, other, stranger)}


def test_a_project_is_restored_to_one_moment(program: Program, volume: str, make_volume: MakeVolume) -> None:
    """The snapshots of one quiet are chosen, though one of the volumes has a newer one."""
    project = {"backupd.enable": "true", "com.docker.compose.project": program.name}
    other = make_volume(program.name, project)
    together = {
        each["volume"]: each["snapshot"]["snapshot"]
        for each in program.json("backup", "--project", program.name)
    }
    program.run("backup", volume)
    planned = program.json("restore", "--project", program.name, "--replace", "--dry-run")
    assert {each["volume"]: each["snapshot"] for each in planned} == together
    assert together.keys() == {volume, other}


def test_restore_into_a_new_volume(
    engine: Engine, program: Program, volume: str, new_name: str, run_in_volume: RunInVolume
) -> None:
    """`restore --to NEW` makes a volume with the same labels and files and leaves the old one alone."""
    program.run("backup", volume)
    [result] = program.json("restore", volume, "--to", new_name)
    assert (result["volume"], result["created"]) == (new_name, True)
    assert run_in_volume(new_name, LOOK) == "welcome\n7:8 regular file\n0:0 symbolic link\n"
    assert engine.volume(new_name).labels["com.docker.compose.project"] == program.name


def test_dry_run_changes_nothing(
    program: Program, volume: str, new_name: str, run_in_volume: RunInVolume
) -> None:
    """`restore --dry-run` prints the plan; no volume is made, none is changed."""
    program.run("backup", volume)
    told = program.run("restore", volume, "--to", new_name, "--dry-run")
    assert f"into a new volume {new_name}".encode() in told.stderr
    run_in_volume(volume, "echo changed > etc/motd")
    [plan] = program.json("restore", volume, "--replace", "--dry-run")
    assert (plan["way"], plan["stops"], plan["saves"]) == ("exchange", [], True)
    assert run_in_volume(volume, "cat etc/motd") == "changed\n"
    assert new_name not in {each["volume"] for each in program.json("volumes")}


def test_volume_that_holds_files_is_only_replaced_when_asked_to(
    program: Program, volume: str, run_in_volume: RunInVolume
) -> None:
    """I18: refused without `--replace`; with it, a confirmation is needed; the old files are kept safe."""
    program.run("backup", volume)
    run_in_volume(volume, "echo changed > etc/motd; touch later")
    assert b"--replace" in program.run("restore", volume, code=1).stderr
    assert b"--yes" in program.run("restore", volume, "--replace", code=2).stderr
    assert run_in_volume(volume, "cat etc/motd") == "changed\n"
    [result] = program.json("restore", volume, "--replace", "--yes")
    assert run_in_volume(volume, f"{LOOK}; ls -A") == ("welcome\n7:8 regular file\n0:0 symbolic link\netc\n")
    assert {"./later"} == {each["path"] for each in program.json("show", result["saved"], "later")}


def test_volume_in_use_is_replaced_only_when_asked_to(
    engine: Engine, program: Program, volume: str, start_container: StartContainer, run_in_volume: RunInVolume
) -> None:
    """I18: without `--replace` it is refused; with it the container is stopped, and runs again afterwards."""
    program.run("backup", volume)
    run_in_volume(volume, "echo changed > etc/motd")
    user = start_container("trap 'exit 0' TERM; while :; do sleep 0.1; done", volume)
    begun = engine.api.inspect_container(user)["State"]["StartedAt"]
    refused = program.run("restore", volume, "--yes", code=1)
    assert b"running containers" in refused.stderr
    assert run_in_volume(volume, "cat etc/motd") == "changed\n"
    [done] = program.json("restore", volume, "--replace", "--yes")
    assert run_in_volume(volume, "cat etc/motd") == "welcome\n"
    state = engine.api.inspect_container(user)["State"]
    assert state["Running"]
    assert state["StartedAt"] != begun
    assert done["saved"] in program.snapshots(volume)


def test_project_is_restored_after_its_volumes_are_gone(
    engine: Engine, program: Program, volume: str, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """`backup --project` and `restore --project` save and bring back every volume of a compose project."""
    other = make_volume(program.name, dict(engine.volume(volume).labels))
    run_in_volume(other, "echo other > file")
    program.run("backup", "--project", program.name)
    for name in (volume, other):
        engine.api.remove_volume(name)
    results = program.json("restore", "--project", program.name, "--yes")
    assert {each["volume"] for each in results} == {volume, other}
    assert run_in_volume(volume, "cat etc/motd") == "welcome\n"
    assert run_in_volume(other, "cat file") == "other\n"
    assert engine.volume(other).labels["backupd.enable"] == "true"


def test_snapshot_of_a_time_is_chosen(program: Program, volume: str) -> None:
    """`--at` takes the newest snapshot that is not younger; a time before the first one is an error."""
    program.run("backup", volume)
    [plan] = program.json("restore", volume, "--at", "2100-01-01", "--replace", "--dry-run")
    assert [plan["snapshot"]] == program.snapshots(volume)
    program.run("restore", volume, "--at", "2001-01-01", "--replace", "--dry-run", code=1)


def test_export_writes_a_tar_stream_or_one_file(program: Program, volume: str, tmp_path: Path) -> None:
    """`export` writes what tar reads, to standard output or a file; with a path, that file alone."""
    program.run("backup", volume)
    [snapshot] = program.snapshots(volume)
    streamed = program.run("export", snapshot[:-2]).stdout
    with tarfile.open(fileobj=io.BytesIO(streamed)) as tar:
        assert tar.getmember("./etc/motd").uid == 7
    target = tmp_path / "volume.tar"
    assert program.run("export", snapshot, "-o", str(target)).stdout == b""
    assert target.read_bytes() == streamed
    assert not target.with_name("volume.tar.part").exists()
    assert program.run("export", snapshot, "etc/motd", "-o", "-").stdout == b"welcome\n"


def test_failed_export_leaves_no_file(program: Program, volume: str, tmp_path: Path) -> None:
    """A path that the snapshot does not have is an error, and the output file does not appear."""
    program.run("backup", volume)
    [snapshot] = program.snapshots(volume)
    target = tmp_path / "file"
    program.run("export", snapshot, "etc/nothing", "-o", str(target), code=1)
    assert list(tmp_path.glob("file*")) == []


def test_misspelt_volume_is_named_and_never_made(engine: Engine, program: Program, volume: str) -> None:
    """I20: the error offers the nearest name, and no volume of the wrong name exists afterwards."""
    refused = program.run("backup", f"{volume}x", code=1)
    assert f"did you mean {volume}" in refused.stderr.decode()
    program.run("restore", f"{volume}x", code=1)
    assert f"{volume}x" not in {each["Name"] for each in engine.api.volumes()["Volumes"]}


def test_backup_without_a_repository_is_refused(
    engine: Engine, tmp_path: Path, make_volume: MakeVolume
) -> None:
    """I19: an empty directory is no repository, and nothing is written to it."""
    (tmp_path / "storage").mkdir()
    program = Program(engine, tmp_path)
    refused = program.run("backup", make_volume(program.name), code=1)
    assert b"backupd init" in refused.stderr
    assert list((tmp_path / "storage").iterdir()) == []


def test_engine_that_does_not_answer_is_said_with_a_hint(program: Program, tmp_path: Path) -> None:
    """No engine at the address: one line and a hint."""
    text = (tmp_path / "config.toml").read_text().replace("unix:///", "unix:///nowhere/")
    (tmp_path / "config.toml").write_text(text)
    refused = program.run("volumes", code=1)
    assert refused.stderr.startswith(b"backupd: ")
    assert b"\nhint: " in refused.stderr
