"""Silence is a failure: what a running daemon says of itself, and whom it tells."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupd.engine.client import Engine
from backupd.ledger import Ledger
from backupd.unixhttp import SOCKET, ask
from tests.docker.conftest import MakeVolume
from tests.docker.program import PATIENCE_SECONDS, Daemon, Program
from tests.listener import Listener, listening
from tests.promtool import judge

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("engine", [None], indirect=True, ids=["engine"]),  # any engine will do
]

EACH_SECOND = "* * * * * *"


@pytest.fixture
def program(engine: Engine, tmp_path: Path) -> Iterator[Program]:
    """A program with a repository; nothing of it is left on the engine afterwards."""
    made = Program(engine, tmp_path)
    made.run("init")
    yield made
    for helper in made.helpers():
        engine.api.remove_container(helper["Id"], force=True)


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A server that is told things."""
    with listening() as made:
        yield made


@contextmanager
def running(program: Program) -> Iterator[Daemon]:
    """A daemon, stopped in the end in good order."""
    daemon = Daemon(program)
    try:
        daemon.wait_for("daemon started")
        yield daemon
        assert daemon.stop(signal.SIGTERM) == 0
    finally:
        daemon.process.kill()
        daemon.wait()


def health(program: Program) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of `backupd health`."""
    done = subprocess.run(
        program.command("health", "--json"), capture_output=True, timeout=PATIENCE_SECONDS, check=False
    )
    return done.returncode, json.loads(done.stdout)


def until(condition: Callable[[], bool]) -> None:
    """Wait for the condition to come true."""
    poll = threading.Event()
    for _ in range(PATIENCE_SECONDS * 15):
        if condition():
            return
        poll.wait(0.2)
    raise AssertionError("waited in vain")


def far_from_now() -> str:
    """A daily schedule whose point is half a day away."""
    return f"0 {(datetime.now(UTC) + timedelta(hours=12)).hour} * * *"


def labelled(schedule: str, **more: str) -> dict[str, str]:
    """The labels of a protected volume."""
    return {"backupd.enable": "true", "backupd.schedule": schedule, **more}


def kinds(listener: Listener, volume: str) -> list[str]:
    """What was told of a volume so far."""
    told = [json.loads(request.body) for request in list(listener.received) if request.path == "/hook"]
    return [notice["kind"] for notice in told if notice["volume"] == volume]


def test_a_daemon_whose_volumes_are_saved_is_healthy(program: Program, make_volume: MakeVolume) -> None:
    """On its socket: health, and metrics of a real run that Prometheus can read."""
    volume = make_volume(program.name, labelled(EACH_SECOND))
    with running(program) as daemon:
        daemon.wait_for("backup finished", volume=volume)
        until(lambda: health(program) == (0, {"ok": True, "protected": 1, "problems": []}))
        path = program.directory / "state" / SOCKET
        status, body = ask(path, "GET", "/metrics")
        page = body.decode()
        assert status == 200
        judge("check", "metrics", text=page)
        assert "\nbackupd_healthy 1\n" in page
        assert f'\nbackupd_volume_runs_total{{volume="{volume}",outcome="ok"}} ' in page
        assert f'\nbackupd_volume_consistency{{volume="{volume}",consistency="clean-stop"}} 1\n' in page
        record = json.loads(ask(path, "GET", "/status")[1])["records"][volume]
        daemon.wait_for("backup finished", snapshot=record["success"]["snapshot"])
        assert f'\nbackupd_volume_last_verified_timestamp_seconds{{volume="{volume}"}} ' not in page
        program.run("verify")
        page = ask(path, "GET", "/metrics")[1].decode()
        assert f'\nbackupd_volume_last_verified_timestamp_seconds{{volume="{volume}"}} ' in page
    code, answer = health(program)
    assert (code, answer["problems"][0]["kind"]) == (1, "daemon")


def test_a_volume_without_a_success_in_time_is_red_and_told_until_it_is_saved(
    program: Program, listener: Listener, make_volume: MakeVolume
) -> None:
    """S5: seen three days ago, due every day, never saved. A backup by hand, by another process, ends it."""
    volume = make_volume(program.name, labelled(far_from_now()))
    Ledger(program.directory / "state").seen([volume], datetime.now(UTC) - timedelta(days=3))
    program.add_settings(f'[notify]\nwebhook = "{listener.url}/hook"\n')
    with running(program):
        until(lambda: health(program)[1]["protected"] == 1)
        code, answer = health(program)
        assert code == 1
        [problem] = answer["problems"]
        assert (problem["kind"], problem["volume"]) == ("overdue", volume)
        assert "never yet" in problem["text"]
        until(lambda: kinds(listener, volume) == ["overdue"])
        program.run("backup", volume)
        until(lambda: health(program)[0] == 0)
        until(lambda: kinds(listener, volume) == ["overdue", "recovered"])


def test_a_misconfigured_volume_is_red_and_named(program: Program, make_volume: MakeVolume) -> None:
    """I2: a schedule that never fires would be silence for ever."""
    volume = make_volume(program.name, labelled("31 2 30 2 *"))
    with running(program) as daemon:
        daemon.wait_for("volume cannot be protected", volume=volume)
        until(lambda: [each["volume"] for each in health(program)[1]["problems"]] == [volume])
        code, answer = health(program)
        assert code == 1
        assert "31 2 30 2 *" in answer["problems"][0]["text"]


def test_a_volume_that_nobody_protects_is_told_once(
    program: Program, listener: Listener, make_volume: MakeVolume
) -> None:
    """Forgetting a new volume is what people fear; a daemon that starts again does not repeat itself."""
    volume = make_volume(program.name)
    program.add_settings(f'[notify]\nwebhook = "{listener.url}/hook"\n')
    path = program.directory / "state" / SOCKET
    for _ in range(2):
        with running(program):
            until(
                lambda: (
                    b'\nbackupd_unprotected_volumes{kind="unlabelled"} 1\n' in ask(path, "GET", "/metrics")[1]
                )
            )
    told = [json.loads(request.body) for request in listener.wait_for(1)]
    assert [notice["kind"] for notice in told] == ["gaps"]
    assert volume in told[0]["text"]


def test_runs_that_fail_are_told_once_and_recovery_is_told(
    program: Program, listener: Listener, make_volume: MakeVolume
) -> None:
    """By webhook and by the volume's own ping, whose address is nowhere in the log (I21)."""
    secret = "a-secret-address"
    marker = program.directory / "storage" / "backupd.json"
    program.add_settings(f'[notify]\nwebhook = "{listener.url}/hook"\n')
    ping = f"{listener.url}/{secret}"
    with running(program) as daemon:
        volume = make_volume(program.name, labelled(EACH_SECOND, **{"backupd.ping": ping}))
        daemon.wait_for("backup finished", volume=volume)
        marker.rename(marker.with_name("away"))
        daemon.wait_for("backup failed", volume=volume)
        until(lambda: kinds(listener, volume) == ["failed"])
        count = len(daemon.logged("backup failed", volume=volume))
        until(lambda: len(daemon.logged("backup failed", volume=volume)) > count)
        assert health(program)[0] == 0  # it is not overdue yet
        marker.with_name("away").rename(marker)
        until(lambda: kinds(listener, volume) == ["failed", "recovered"])
        paths = {request.path for request in listener.received}
        assert {f"/{secret}/start", f"/{secret}", f"/{secret}/fail"} <= paths
    assert secret not in json.dumps(daemon.lines)
    assert secret not in program.run("volumes", "--json").stdout.decode()
    for manifest in (program.directory / "storage" / "snapshots").rglob("*.json"):
        assert secret not in manifest.read_text()


def test_a_channel_that_is_away_fails_no_backup(program: Program, make_volume: MakeVolume) -> None:
    """Nobody answers there; backups go on, and it ends when it is told to."""
    with listening() as gone:
        url = gone.url
    program.add_settings(f'[notify]\nwebhook = "{url}/hook"\nping = "{url}/all"\n')
    volume = make_volume(program.name, labelled(EACH_SECOND, **{"backupd.ping": f"{url}/volume"}))
    with running(program) as daemon:
        daemon.wait_for("notification is tried again", channel="ping")
        count = len(daemon.logged("backup finished", volume=volume))
        until(lambda: len(daemon.logged("backup finished", volume=volume)) > count + 1)


def test_a_channel_that_cannot_work_keeps_the_daemon_from_starting(program: Program) -> None:
    """Better than to find out when it is needed; the address is not repeated (I21)."""
    program.add_settings('[notify]\napprise = ["nonsense://very-secret"]\n')
    done = program.run("run", code=2)
    assert b"number 1 is no address that apprise knows" in done.stderr
    assert b"very-secret" not in done.stderr
