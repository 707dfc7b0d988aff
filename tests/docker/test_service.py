"""The daemon as a service: seen from outside, told to reload, supervised, held to its limits."""

from __future__ import annotations

import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backupd.engine.client import Engine
from tests.docker.conftest import MakeVolume, RunInVolume, StartContainer
from tests.docker.program import PATIENCE_SECONDS, Daemon, Program

pytestmark = pytest.mark.docker

EACH_SECOND = "* * * * * *"
LARGE = "head -c 150000000 /dev/urandom > random"
LABELS = {"backupd.enable": "true", "backupd.schedule": EACH_SECOND}

StartDaemon = Callable[[], Daemon]


@pytest.fixture
def program(engine: Engine, tmp_path: Path) -> Iterator[Program]:
    """A program with a repository; nothing of it is left on the engine afterwards."""
    made = Program(engine, tmp_path)
    made.run("init")
    yield made
    for helper in made.helpers():
        engine.api.remove_container(helper["Id"], force=True)


@pytest.fixture
def start_daemon(program: Program) -> Iterator[StartDaemon]:
    """Start daemons; they are killed after the test if they still run."""
    daemons: list[Daemon] = []

    def start() -> Daemon:
        daemons.append(Daemon(program))
        daemons[-1].wait_for("daemon started")
        return daemons[-1]

    yield start
    for daemon in daemons:
        if daemon.process.poll() is None:
            daemon.stop(signal.SIGKILL)


def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives, once it gives something."""
    poll = threading.Event()
    for _ in range(PATIENCE_SECONDS * 10):
        if found := condition():
            return found
        poll.wait(0.1)
    raise AssertionError("waited in vain")


def test_status_shows_what_runs_and_waits_and_how_it_ended(
    program: Program, start_daemon: StartDaemon, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """S4: another process sees the volume at work, the points skipped for it, and afterwards the result."""
    volume = make_volume(program.name, LABELS)
    run_in_volume(volume, LARGE)
    daemon = start_daemon()
    helper = program.catch_helper()

    def at_work() -> dict[str, Any] | None:
        status = program.json("status")
        return status if status["running"] and status["skipped"].get(volume, 0) >= 1 else None

    status = until(at_work)
    assert status["daemon"]["pid"] == daemon.process.pid
    [running] = status["running"]
    assert (running["volume"], running["phase"]) == (volume, "reading")
    assert status["waiting"] == []
    assert volume in status["next"]
    shown = program.run("status").stdout.decode()
    assert f"{volume}: reading" in shown
    program.let_go(helper)
    daemon.wait_for("backup finished", volume=volume)
    last = until(lambda: program.json("status")["last"].get(volume))
    assert last["outcome"] == "ok"
    assert last["snapshot"] in program.snapshots(volume)
    assert daemon.stop(signal.SIGTERM) == 0
    gone = program.run("status", code=1)
    assert b"hint: is `backupd run` running" in gone.stderr


def test_status_tells_why_the_last_run_failed(
    program: Program, start_daemon: StartDaemon, make_volume: MakeVolume, tmp_path: Path
) -> None:
    """A failure is seen from outside, with its reason."""
    volume = make_volume(program.name, LABELS)
    (tmp_path / "storage" / "sessions").write_text("in the way of every writer")
    daemon = start_daemon()
    daemon.wait_for("backup failed", volume=volume)
    last = until(lambda: program.json("status")["last"].get(volume))
    assert last["outcome"] == "failed"
    assert "Not a directory" in last["error"]
    assert "failed: cannot store" in program.run("status").stdout.decode()


def test_volumes_of_one_container_wait_for_each_other(
    engine: Engine,
    program: Program,
    start_daemon: StartDaemon,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
) -> None:
    """A container never stands still for two runs at once, though there is room for more at work."""
    volumes = [make_volume(program.name, LABELS) for _ in range(2)]
    for volume in volumes:
        run_in_volume(volume, LARGE)
    both = engine.api.create_container(
        "backupd-test-tools",
        ["sleep", "600"],
        labels={"backupd.test": "true"},
        host_config=engine.api.create_host_config(
            binds=[f"{volume}:/{number}" for number, volume in enumerate(volumes)], network_mode="none"
        ),
    )["Id"]
    try:
        engine.api.start(both)
        daemon = start_daemon()
        helper = program.catch_helper()
        status = until(lambda: (found := program.json("status"))["waiting"] and found)
        assert len(status["running"]) == len(status["waiting"]) == 1
        assert {status["running"][0]["volume"], status["waiting"][0]["name"]} == set(volumes)
        assert len(program.helpers()) == 1
        program.let_go(helper)
        for volume in volumes:
            daemon.wait_for("backup finished", volume=volume)
        assert daemon.stop(signal.SIGTERM) == 0
        assert engine.api.inspect_container(both)["State"]["Status"] == "running"
    finally:
        engine.api.remove_container(both, force=True)


def test_all_that_are_due_at_once_are_done_and_never_more_than_the_limit(
    program: Program, start_daemon: StartDaemon, make_volume: MakeVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine volumes, room for three: each has its turn, and nobody ever sees a fourth at work."""
    monkeypatch.setenv("BACKUPD_CONCURRENCY", "3")
    volumes = {make_volume(program.name, LABELS) for _ in range(9)}
    daemon = start_daemon()
    most = 0

    def all_done() -> bool:
        nonlocal most
        most = max(most, len(program.helpers()))
        return volumes <= {line["volume"] for line in daemon.logged("backup finished")}

    until(all_done)
    assert daemon.stop(signal.SIGTERM) == 0
    assert most <= 3


def test_sighup_applies_new_schedules_and_refuses_what_makes_no_sense(
    program: Program, start_daemon: StartDaemon, make_volume: MakeVolume, tmp_path: Path
) -> None:
    """A bad file is refused with its error and the old settings hold; a good one holds without a restart."""
    volume = make_volume(program.name, {"backupd.enable": "true"})
    daemon = start_daemon()
    daemon.wait_for("volume scheduled", volume=volume, schedule="@daily")
    program.add_settings("[nonsense]\n")
    daemon.process.send_signal(signal.SIGHUP)
    refused = daemon.wait_for("new settings refused, the old ones hold")
    assert "unknown setting nonsense" in refused["error"]
    program.configure(f'schedule = "{EACH_SECOND}"')
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.wait_for("settings reloaded")["changed"] == ["volume"]
    daemon.wait_for("volume scheduled", volume=volume, schedule=EACH_SECOND)
    daemon.wait_for("backup finished", volume=volume)
    config = tmp_path / "config.toml"
    config.write_text(config.read_text().replace(f'"{tmp_path}/storage"', f'"{tmp_path}/elsewhere"'))
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.wait_for("settings need a restart")["settings"] == ["storage"]
    done = len(daemon.logged("backup finished", volume=volume))
    until(lambda: len(daemon.logged("backup finished", volume=volume)) > done)
    assert daemon.stop(signal.SIGTERM) == 0
    assert not (tmp_path / "elsewhere").exists()


def test_systemd_hears_of_start_reload_life_and_end(
    program: Program, start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sd_notify: ready once it serves, reloading and ready again, alive in between, stopping."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as short,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(f"{short}/notify")
        manager.settimeout(PATIENCE_SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{short}/notify")
        monkeypatch.setenv("WATCHDOG_USEC", "1500000")

        def hear(beginning: bytes) -> bytes:
            while not (message := manager.recv(4096)).startswith(beginning):
                pass
            return message

        daemon = start_daemon()
        assert manager.recv(4096) == b"READY=1", "before that systemd must hear nothing"
        assert b"volumes protected" in hear(b"STATUS=")
        hear(b"WATCHDOG=1")
        daemon.process.send_signal(signal.SIGHUP)
        assert b"MONOTONIC_USEC=" in hear(b"RELOADING=1")
        hear(b"READY=1")
        daemon.process.send_signal(signal.SIGTERM)
        hear(b"STOPPING=1")
        assert daemon.wait() == 0


def test_helpers_have_the_limits_of_the_settings(
    engine: Engine,
    program: Program,
    start_daemon: StartDaemon,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory, processes and weight are set on the container."""
    monkeypatch.setenv("BACKUPD_HELPER__MEMORY", "128m")
    monkeypatch.setenv("BACKUPD_HELPER__CPU_SHARES", "300")
    volume = make_volume(program.name, LABELS)
    run_in_volume(volume, LARGE)
    daemon = start_daemon()
    limits = engine.api.inspect_container(program.catch_helper())["HostConfig"]
    assert (limits["Memory"], limits["MemorySwap"]) == (128 << 20, 128 << 20)
    assert (limits["PidsLimit"], limits["CpuShares"]) == (16, 300)
    assert daemon.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("limit", ["READ", "UPLOAD"])
def test_slow_backup_is_seen_and_ends_when_told(
    engine: Engine,
    program: Program,
    start_daemon: StartDaemon,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    start_container: StartContainer,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
) -> None:
    """E3: a rate that would take an hour keeps nobody waiting on SIGTERM; the application goes on."""
    monkeypatch.setenv(f"BACKUPD_LIMITS__{limit}", "64k")
    volume = make_volume(program.name, LABELS)
    run_in_volume(volume, LARGE)
    application = start_container("sleep 600", volume)
    daemon = start_daemon()
    until(lambda: program.json("status")["running"] and len(program.helpers()) == 1)
    assert daemon.stop(signal.SIGTERM) == 0
    assert daemon.logged("backup interrupted", volume=volume)
    assert program.helpers() == []
    assert program.snapshots(volume) == []
    assert engine.api.inspect_container(application)["State"]["Status"] == "running"


def test_the_daemon_verifies_by_itself(
    program: Program,
    start_daemon: StartDaemon,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a schedule of its own where it is asked to, and what it proves is remembered."""
    volume = make_volume(program.name)
    run_in_volume(volume, "echo welcome > motd")
    program.run("backup", volume)
    monkeypatch.setenv("BACKUPD_VERIFY__SCHEDULE", EACH_SECOND)
    monkeypatch.setenv("BACKUPD_VERIFY__READ_DATA", "100%")
    daemon = start_daemon()
    verified = daemon.wait_for("verify finished", outcome="ok")
    assert verified["snapshots"] == 1
    assert verified["read_bytes"] >= 1
    assert daemon.stop(signal.SIGTERM) == 0
