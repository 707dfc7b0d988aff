"""sd_notify(3) against a real datagram socket, and the daemon's beat."""

from __future__ import annotations

import configparser
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from backupd.errors import UsageError
from backupd.pulse import BEAT_SECONDS, Pulse
from backupd.systemd import Supervisor

UNIT = Path(__file__).parents[2] / "deploy/systemd/backupd.service"


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[tuple[str, socket.socket]]:
    """What NOTIFY_SOCKET says, and the socket on which systemd would listen."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as short,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end,
    ):
        if request.param == "path":
            name = str(Path(short, "notify"))
            end.bind(name)
        else:
            name = f"@backupd-test-{uuid.uuid4().hex}"
            end.bind("\0" + name[1:])
        end.settimeout(60)
        yield name, end


def test_every_state_is_told(manager: tuple[str, socket.socket]) -> None:
    """Ready, reloading with the time that systemd asks for, status, watchdog, stopping."""
    name, end = manager
    supervisor = Supervisor({"NOTIFY_SOCKET": name})
    supervisor.ready()
    assert end.recv(4096) == b"READY=1"
    supervisor.reloading()
    first, second = end.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0
    supervisor.status("3 volumes protected")
    supervisor.status("3 volumes protected")
    supervisor.alive()
    assert end.recv(4096) == b"STATUS=3 volumes protected"
    assert end.recv(4096) == b"WATCHDOG=1"
    supervisor.stopping()
    assert end.recv(4096) == b"STOPPING=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_without_systemd_nothing_is_told_and_nothing_fails(environ: dict[str, str]) -> None:
    """In a container, on a terminal, or where the socket has gone."""
    supervisor = Supervisor(environ)
    supervisor.ready()
    supervisor.stopping()
    assert supervisor.watchdog_seconds is None


def test_watchdog_is_for_the_process_that_it_names() -> None:
    """A variable that was inherited from another service's process is not ours; nonsense is nobody's."""
    own = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    assert Supervisor(own).watchdog_seconds == 30
    assert Supervisor({"WATCHDOG_USEC": "30000000"}).watchdog_seconds == 30
    assert Supervisor(own | {"WATCHDOG_PID": "1"}).watchdog_seconds is None
    assert Supervisor(own | {"WATCHDOG_USEC": "soon"}).watchdog_seconds is None
    assert Supervisor(own | {"WATCHDOG_USEC": "0"}).watchdog_seconds is None


def test_watchdog_hears_only_of_a_daemon_that_lives(manager: tuple[str, socket.socket]) -> None:
    """A scheduler that is stuck is restarted by systemd, because nobody says that all is well."""
    name, end = manager
    lives = True
    supervisor = Supervisor({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "9000000"})
    pulse = Pulse(supervisor, lives=lambda: lives, clock_moved=lambda: None)
    assert pulse.seconds == 3
    pulse.beat()
    assert end.recv(4096) == b"WATCHDOG=1"
    lives = False
    with capture_logs() as logged:
        pulse.beat()
        pulse.beat()
    assert [entry["log_level"] for entry in logged] == ["error"]
    supervisor.stopping()
    assert end.recv(4096) == b"STOPPING=1", "nothing was told in between"


@pytest.mark.parametrize(("set_by", "noticed"), [(-3600, 1), (7200, 1), (-5, 0), (5, 0)])
def test_clock_that_is_set_is_noticed_once(set_by: float, noticed: int) -> None:
    """S1: a jump either way; the small steps by which a clock is kept right are none."""
    wall, steady, moved = 1_000_000.0, 50.0, []
    pulse = Pulse(
        Supervisor({}),
        lives=lambda: True,
        clock_moved=lambda: moved.append(wall),
        wall=lambda: wall,
        steady=lambda: steady,
    )
    for step in (0.0, set_by, 0.0):
        wall, steady = wall + 10 + step, steady + 10
        pulse.beat()
    assert len(moved) == noticed


def test_unit_supervises_what_the_daemon_tells(tmp_path: Path) -> None:
    """Notify, reload by SIGHUP, a watchdog that is slower than the beat, time to let containers go."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert service["ExecStart"].split()[1:] == ["run"]
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert BEAT_SECONDS * 3 < 60 <= int(service["WatchdogSec"].removesuffix("min")) * 60
    assert int(service["TimeoutStopSec"].removesuffix("min")) >= 1
    assert service["RestartPreventExitStatus"] == str(UsageError.exit_code)
    assert service["ProtectSystem"] == "strict"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
def test_unit_is_understood_by_systemd(tmp_path: Path) -> None:
    """No key is misspelt, no value is wrong."""
    text = UNIT.read_text().replace("/usr/local/bin/backupd", "/bin/true")
    path = tmp_path / "backupd-test.service"
    path.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "backupd-test.service:" in line] == []
