"""A volume's way into a bucket and back, with the program as a user runs it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from docker.errors import NotFound

from backupd.engine.client import Engine
from tests.docker.conftest import MakeVolume, RunInVolume, StartContainer
from tests.docker.program import Daemon, Program
from tests.s3.account import Account
from tests.s3.ceph import Ceph
from tests.s3.process import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.s3]

FILL = "mkdir etc; echo welcome > etc/motd; chown 7:8 etc/motd; head -c 9000000 /dev/urandom > large"
LOOK = "cat etc/motd; stat -c '%u:%g %F' etc/motd; sha256sum large"
LARGE = "head -c 400000000 /dev/urandom > random"
EACH_SECOND = {"backupd.enable": "true", "backupd.schedule": "* * * * * *"}
STOP_GRACE_SECONDS = 10
"""What an engine gives a container between SIGTERM and SIGKILL."""


def reach(account: Account, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let programs that are started from now on reach the account; its secret key is in a file."""
    (directory / "secret").write_text(account.keys.secret_key + "\n")
    monkeypatch.setenv("BACKUPD_S3__ENDPOINT", account.endpoint)
    monkeypatch.setenv("BACKUPD_S3__ACCESS_KEY", account.keys.access_key)
    monkeypatch.setenv("BACKUPD_S3__SECRET_KEY_FILE", str(directory / "secret"))


@pytest.fixture
def bucket(account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A bucket, in an account that programs reach."""
    reach(account, tmp_path, monkeypatch)
    return account.bucket()


@pytest.fixture
def program(engine: Engine, tmp_path: Path, bucket: str) -> Iterator[Program]:
    """A program with a repository in the bucket; nothing of it is left on the engine afterwards."""
    made = Program(engine, tmp_path, storage=f"s3://{bucket}/db1")
    made.run("init")
    yield made
    for helper in made.helpers():
        engine.api.remove_container(helper["Id"], force=True)


@pytest.fixture
def gateway(ceph: Ceph) -> Iterator[Ceph]:
    """The server, whose gateway a test may stop: it answers again afterwards."""
    yield ceph
    ceph.restore_gateway()


def test_volume_comes_back_from_a_bucket(
    engine: Engine,
    account: Account,
    bucket: str,
    tmp_path: Path,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
) -> None:
    """init, backup, snapshots, show and restore, with the secret key in a file and never in what is said."""
    program = Program(engine, tmp_path, storage=f"s3://{bucket}/db1")
    made = program.run("init")
    assert f"s3://{bucket}/db1" in made.stderr.decode()
    assert "has no versioning" in made.stderr.decode()
    volume = make_volume(program.name, {"backupd.enable": "true"})
    run_in_volume(volume, FILL)
    first, second = (program.json("backup", volume)[0] for _ in range(2))
    assert first["outcome"] == second["outcome"] == "ok"
    assert second["snapshot"]["bytes"]["stored"] == 0
    snapshot = second["snapshot"]["snapshot"]
    assert program.snapshots(volume) == [first["snapshot"]["snapshot"], snapshot]
    assert "./etc/motd" in program.run("show", snapshot).stdout.decode()
    copy = f"{program.name}-copy"
    try:
        program.run("restore", volume, "--to", copy, "--yes")
        assert run_in_volume(copy, LOOK) == run_in_volume(volume, LOOK)
    finally:
        with suppress(NotFound):
            engine.api.remove_volume(copy)
    assert {
        each["Key"].split("/")[0] for each in account.client.list_objects_v2(Bucket=bucket)["Contents"]
    } == {"db1"}


def test_silent_server_does_not_keep_a_daemon_from_stopping(
    engine: Engine,
    gateway: Ceph,
    program: Program,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    start_container: StartContainer,
) -> None:
    """E3: SIGTERM while every thread waits for an answer; the application goes on, nothing is left."""
    volume = make_volume(program.name, EACH_SECOND)
    run_in_volume(volume, LARGE)
    application = start_container("sleep 600", volume)
    daemon = Daemon(program)
    try:
        program.see_helper()
        gateway.pause_gateway()
        wait_until(gateway.is_asked)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(STOP_GRACE_SECONDS) == 0
    finally:
        daemon.process.kill()
        daemon.wait()
    assert daemon.logged("backup interrupted", volume=volume), daemon.lines
    assert engine.api.inspect_container(application)["State"]["Status"] == "running"
    assert program.helpers() == []
    gateway.resume_gateway()
    assert program.snapshots(volume) == []


def test_retries_are_told_and_end_with_ctrl_c(
    engine: Engine,
    gateway: Ceph,
    program: Program,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    start_container: StartContainer,
) -> None:
    """E3, R6: the server is gone, each wait is a line of the log, and an interrupt ends it in order."""
    volume = make_volume(program.name)
    run_in_volume(volume, LARGE)
    application = start_container("sleep 600", volume)
    command = Daemon(program, "backup", volume)
    try:
        program.see_helper()
        gateway.kill_gateway()
        retry = command.wait_for("storage is tried again")
        assert retry["attempt"] == 1
        assert retry["seconds"] > 0
        assert "refuses connections" in retry["error"] or "broke off" in retry["error"]
        command.process.send_signal(signal.SIGINT)
        assert command.process.wait(STOP_GRACE_SECONDS) == 130
    finally:
        command.process.kill()
        command.wait()
    assert command.logged("backup interrupted", volume=volume), command.lines
    assert engine.api.inspect_container(application)["State"]["Status"] == "running"
    assert program.helpers() == []
    gateway.start_gateway()
    assert program.snapshots(volume) == []


@pytest.mark.parametrize("fault", ["paused", "killed"])
def test_backup_survives_a_server_that_is_away_for_a_time(
    fault: str,
    gateway: Ceph,
    program: Program,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
) -> None:
    """R6: it stands still or is started anew in the middle; the snapshot is whole and restores."""
    volume = make_volume(program.name)
    run_in_volume(volume, f"{LARGE}; sha256sum random > sum")
    command = Daemon(program, "backup", volume)
    try:
        program.see_helper()
        if fault == "paused":
            gateway.pause_gateway()
            wait_until(gateway.is_asked)
            gateway.resume_gateway()
        else:
            gateway.kill_gateway()
            command.wait_for("storage is tried again")
            gateway.start_gateway()
        assert command.wait() == 0
    finally:
        command.process.kill()
        command.wait()
    [snapshot] = program.snapshots(volume)
    exported = program.run("export", snapshot, "random", "-o", "-").stdout
    assert sha256(exported).hexdigest() == run_in_volume(volume, "cat sum").split()[0]


def test_keys_that_are_withdrawn_in_the_middle_fail_the_backup(
    engine: Engine,
    gateway: Ceph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    start_container: StartContainer,
) -> None:
    """R10: failed at once and told why, the application goes on, and what was saved before is whole."""
    own = Account(gateway.endpoint, gateway.user("--max-buckets=0"))
    reach(own, tmp_path, monkeypatch)
    program = Program(engine, tmp_path, storage=f"s3://{own.bucket()}/db1")
    program.run("init")
    volume = make_volume(program.name)
    run_in_volume(volume, FILL)
    program.run("backup", volume)
    run_in_volume(volume, LARGE)
    application = start_container("sleep 600", volume)
    command = Daemon(program, "backup", volume)
    try:
        program.see_helper()
        gateway.pause_gateway()
        helper = program.catch_helper()
        gateway.resume_gateway()
        fresh = gateway.more_keys(own.keys)
        gateway.remove_key(own.keys)
        program.let_go(helper)
        assert command.wait() == 1
    finally:
        command.process.kill()
        command.wait()
    [failed] = command.logged("backup failed", volume=volume)
    assert "does not know the access key" in failed["error"]
    assert command.logged("storage is tried again") == []
    assert engine.api.inspect_container(application)["State"]["Status"] == "running"
    assert program.helpers() == []
    reach(Account(gateway.endpoint, fresh), tmp_path, monkeypatch)
    [snapshot] = program.snapshots(volume)
    assert program.run("export", snapshot, "etc/motd", "-o", "-").stdout == b"welcome\n"
