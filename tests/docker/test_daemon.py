"""`backupd run` as a process on a real engine."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupd.engine.client import Engine
from tests.docker.conftest import MakeVolume, RunInVolume, StartContainer
from tests.docker.program import PATIENCE_SECONDS, Daemon, Program
from tests.docker.proxy import Proxy

pytestmark = pytest.mark.docker

EACH_SECOND = "* * * * * *"
LARGE = "head -c 150000000 /dev/urandom > random"

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


def labelled(schedule: str) -> dict[str, str]:
    """The labels of a protected volume."""
    return {"backupd.enable": "true", "backupd.schedule": schedule}


def state(engine: Engine, container: str) -> str:
    """The engine's word on a container's state."""
    return str(engine.api.inspect_container(container)["State"]["Status"])


def until(condition: Callable[[], bool]) -> None:
    """Wait for the condition to come true."""
    poll = threading.Event()
    for _ in range(PATIENCE_SECONDS * 20):
        if condition():
            return
        poll.wait(0.05)
    raise AssertionError("waited in vain")


def test_new_labelled_volume_is_scheduled_and_saved(
    program: Program, start_daemon: StartDaemon, make_volume: MakeVolume
) -> None:
    """A volume made while the daemon runs is scheduled through the event stream, and saved at its time."""
    daemon = start_daemon()
    volume = make_volume(program.name, labelled(EACH_SECOND))
    daemon.wait_for("volume scheduled", volume=volume)
    closing = daemon.wait_for("backup finished", volume=volume, outcome="ok")
    assert closing["snapshot"] in program.snapshots(volume)
    assert closing["seconds"] > 0
    assert {"bytes", "new_bytes"} <= closing.keys()
    assert daemon.stop(signal.SIGTERM) == 0


def test_volume_that_is_gone_is_no_longer_scheduled(
    engine: Engine, program: Program, start_daemon: StartDaemon, make_volume: MakeVolume
) -> None:
    """The destruction of a volume takes its job away."""
    volume = make_volume(program.name, labelled("@daily"))
    daemon = start_daemon()
    daemon.wait_for("volume scheduled", volume=volume)
    engine.api.remove_volume(volume)
    daemon.wait_for("volume no longer scheduled", volume=volume)


def test_an_engine_that_comes_back_is_listed_again_and_what_was_missed_is_caught_up(
    engine: Engine, tmp_path: Path, make_volume: MakeVolume
) -> None:
    """E17: the event stream breaks: told once, subscribed again, volumes listed, a missed run made up."""
    assert engine.socket is not None
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's path has 108 bytes
        proxy = Proxy(Path(short, "engine"), engine.socket)
        program = Program(engine, tmp_path, socket=proxy.path)
        program.run("init")
        early = make_volume(program.name, labelled(EACH_SECOND))
        daemon = Daemon(program)
        try:
            daemon.wait_for("backup finished", volume=early)
            proxy.cut()
            daemon.wait_for("engine is away")
            daemon.wait_for("backup failed", volume=early)
            late = make_volume(program.name, labelled(EACH_SECOND))
            before = len(daemon.logged("backup finished", volume=early))
            proxy.mend()
            daemon.wait_for("engine is back")
            daemon.wait_for("missed backup is caught up", volume=early)
            until(lambda: len(daemon.logged("backup finished", volume=early)) > before)
            daemon.wait_for("backup finished", volume=late)
            assert len(daemon.logged("engine is away")) == 1
            assert daemon.stop(signal.SIGTERM) == 0
        finally:
            daemon.process.kill()
            daemon.wait()
            proxy.cut()


def test_label_in_error_is_told_and_the_others_go_on(
    program: Program, start_daemon: StartDaemon, make_volume: MakeVolume
) -> None:
    """I2: a schedule that never fires is named; other volumes are saved all the same."""
    bad = make_volume(program.name, labelled("31 2 30 2 *"))
    good = make_volume(program.name, labelled(EACH_SECOND))
    daemon = start_daemon()
    told = daemon.wait_for("volume cannot be protected", volume=bad)
    assert "31 2 30 2 *" in told["error"]
    daemon.wait_for("backup finished", volume=good)


def test_sigterm_in_the_middle_of_a_backup_leaves_nothing(
    engine: Engine,
    program: Program,
    start_daemon: StartDaemon,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    start_container: StartContainer,
) -> None:
    """E3: the application goes on, the helper is gone, there is no snapshot, and the exit code is 0."""
    volume = make_volume(program.name, labelled(EACH_SECOND))
    run_in_volume(volume, LARGE)
    application = start_container("sleep 600", volume)
    daemon = start_daemon()
    program.catch_helper()
    until(lambda: state(engine, application) == "paused")
    assert daemon.stop(signal.SIGTERM) == 0
    assert daemon.logged("backup interrupted", volume=volume)
    assert daemon.logged("daemon stopped")
    assert state(engine, application) == "running"
    assert program.helpers() == []
    assert program.snapshots(volume) == []


def test_idle_daemon_ends_on_sigint(start_daemon: StartDaemon) -> None:
    """A daemon that has nothing to do stops with 0, and no thread keeps it."""
    assert start_daemon().stop(signal.SIGINT) == 0


def test_killed_daemon_is_put_right_by_the_next(
    engine: Engine,
    program: Program,
    start_daemon: StartDaemon,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    start_container: StartContainer,
) -> None:
    """E1, E16: after kill -9 the next daemon wakes what was paused and removes the leaked helper."""
    volume = make_volume(program.name, labelled(EACH_SECOND))
    run_in_volume(volume, LARGE)
    application = start_container("sleep 600", volume)
    daemon = start_daemon()
    helper = program.catch_helper()
    until(lambda: state(engine, application) == "paused")
    assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    assert state(engine, application) == "paused"
    again = start_daemon()
    # A container that nobody wakes stays paused for good: backups leave it as they find it.
    until(lambda: state(engine, application) == "running")
    assert [each for each in program.helpers() if each["Id"] == helper] == []
    name = engine.api.inspect_container(application)["Name"].removeprefix("/")
    assert [line for line in again.lines if name in line["event"]]
    assert again.stop(signal.SIGTERM) == 0


def test_second_daemon_on_the_same_state_directory_is_refused(
    program: Program, start_daemon: StartDaemon
) -> None:
    """R12: the second one exits with 75 and names the first by pid, host and start."""
    first = start_daemon()
    refused = program.run("run", code=75)
    assert f"pid {first.process.pid} on ".encode() in refused.stderr
    assert b" since " in refused.stderr
    assert first.stop(signal.SIGTERM) == 0
    assert start_daemon().stop(signal.SIGTERM) == 0


def test_missed_backup_is_caught_up_once(
    program: Program, start_daemon: StartDaemon, make_volume: MakeVolume
) -> None:
    """S3: a schedule point that passed while no daemon ran makes one run at the next start."""
    volume = make_volume(program.name, {"backupd.enable": "true"})
    program.run("backup", volume)
    point = datetime.now(UTC) + timedelta(seconds=1)
    program.configure(f'schedule = "{point:%S %M %H %d %m} *"')
    until(lambda: datetime.now(UTC) > point)
    daemon = start_daemon()
    daemon.wait_for("missed backup is caught up", volume=volume)
    daemon.wait_for("backup finished", volume=volume)
    assert daemon.stop(signal.SIGTERM) == 0
    assert len(program.snapshots(volume)) == 2


def test_schedule_point_during_a_run_is_skipped_and_told(
    program: Program,
    start_daemon: StartDaemon,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
) -> None:
    """S4: a run that goes on at the next point is not joined by another; the skip is logged and counted."""
    volume = make_volume(program.name, labelled(EACH_SECOND))
    run_in_volume(volume, LARGE)
    daemon = start_daemon()
    helper = program.catch_helper()
    event = "backup skipped: the last one still goes on"
    daemon.wait_for(event, volume=volume, skipped=1)
    daemon.wait_for(event, volume=volume, skipped=2)
    assert len(program.helpers()) == 1
    program.let_go(helper)
    daemon.wait_for("backup finished", volume=volume)


def test_volume_is_not_saved_twice_at_once_by_two_processes(
    program: Program,
    start_daemon: StartDaemon,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
) -> None:
    """A manual backup of a volume that the daemon saves is refused with 75, naming the daemon."""
    volume = make_volume(program.name, labelled(EACH_SECOND))
    run_in_volume(volume, LARGE)
    daemon = start_daemon()
    program.catch_helper()
    refused = program.run("backup", volume, code=75)
    assert f"volume {volume} is in use by pid {daemon.process.pid} on ".encode() in refused.stderr


def test_daemon_without_a_repository_refuses_to_start(engine: Engine, tmp_path: Path) -> None:
    """I19: an empty directory, such as a mount point without its disk, is not taken for a repository."""
    (tmp_path / "storage").mkdir()
    refused = Program(engine, tmp_path).run("run", code=1)
    assert b"backupd init" in refused.stderr
    assert list((tmp_path / "storage").iterdir()) == []


def test_idle_daemon_stays_small(
    start_daemon: StartDaemon, make_volume: MakeVolume, program: Program
) -> None:
    """The daemon that waits takes less than 100 MB."""
    volume = make_volume(program.name, labelled("@daily"))
    daemon = start_daemon()
    daemon.wait_for("volume scheduled", volume=volume)
    status = Path(f"/proc/{daemon.process.pid}/status").read_text(encoding="ascii")
    resident_kib = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
    assert resident_kib < 100_000


def test_retention_is_applied_after_each_success(
    program: Program, start_daemon: StartDaemon, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """With last=2 and a run each second two snapshots are left in the end, and both restore."""
    volume = make_volume(program.name, {**labelled(EACH_SECOND), "backupd.retention": "last=2"})
    run_in_volume(volume, "echo welcome > motd")
    daemon = start_daemon()
    until(lambda: len(daemon.logged("backup finished", volume=volume)) >= 4)
    assert daemon.stop(signal.SIGTERM) == 0
    applied = daemon.logged("retention applied", volume=volume, policy="last=2")
    assert sum(line["forgotten"] for line in applied) >= 2
    # A run that SIGTERM met after its snapshot was there leaves forgetting to the next.
    program.run("forget", volume, "--yes")
    left = program.snapshots(volume)
    assert len(left) == 2
    assert not {snapshot for line in applied for snapshot in line["snapshots"]} & set(left)
    for snapshot in left:
        assert program.run("export", snapshot, "motd", "-o", "-").stdout == b"welcome\n"
        program.run("restore", volume, "--snapshot", snapshot, "--replace", "--yes")
        assert run_in_volume(volume, "cat motd") == "welcome\n"


def test_a_failed_run_forgets_nothing(
    program: Program,
    start_daemon: StartDaemon,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    tmp_path: Path,
) -> None:
    """Retention follows a success only: three snapshots stay though last=1 would keep one."""
    volume = make_volume(program.name, {**labelled(EACH_SECOND), "backupd.retention": "last=1"})
    run_in_volume(volume, "echo welcome > motd")
    program.configure(
        "enable = false"
    )  # a volume that nobody protects is saved by name, and nothing forgotten
    for _ in range(3):
        program.run("backup", volume)
    before = program.snapshots(volume)
    assert len(before) == 3
    program.configure("")
    sessions = tmp_path / "storage" / "sessions"
    sessions.rename(sessions.with_name("moved"))
    sessions.write_text("in the way of every writer")
    daemon = start_daemon()
    daemon.wait_for("backup failed", volume=volume)
    assert daemon.stop(signal.SIGTERM) == 0
    assert not daemon.logged("retention applied")
    assert program.snapshots(volume) == before


def test_a_machine_that_may_not_forget_does_not(
    program: Program, start_daemon: StartDaemon, make_volume: MakeVolume, tmp_path: Path
) -> None:
    """`forget.after_backup = false`: snapshots are only added."""
    volume = make_volume(program.name, {**labelled(EACH_SECOND), "backupd.retention": "last=1"})
    config = tmp_path / "config.toml"
    config.write_text(config.read_text() + "\n[forget]\nafter_backup = false\n")
    daemon = start_daemon()
    until(lambda: len(daemon.logged("backup finished", volume=volume)) >= 3)
    assert daemon.stop(signal.SIGTERM) == 0
    assert not daemon.logged("retention applied")
    assert len(program.snapshots(volume)) >= 3


def test_the_daemon_prunes_by_itself(
    program: Program, start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a schedule of its own, also what others have condemned, and it ends in order."""
    monkeypatch.setenv("BACKUPD_PRUNE__SCHEDULE", EACH_SECOND)
    monkeypatch.setenv("BACKUPD_PRUNE__GRACE", "0s")
    daemon = start_daemon()
    daemon.wait_for("prune finished", outcome="ok")
    assert daemon.stop(signal.SIGTERM) == 0
    assert not daemon.logged("prune failed")
