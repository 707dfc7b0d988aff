"""sd_notify(3) against a real datagram socket, and the daemon's beat."""

from __future__ import annotations

import os
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from backupd.pulse import Pulse
from backupd.systemd import Supervisor


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
