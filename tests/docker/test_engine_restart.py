"""An engine that restarts, or is killed, while a backup runs; the test has it to itself."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from backupd.engine.client import Engine
from tests.docker.own_engine import OwnEngine, own_engine
from tests.docker.program import PATIENCE_SECONDS, Daemon, Program

__all__ = ["own_engine"]

pytestmark = pytest.mark.docker

TOOLS = "backupd-test-tools"
LABELS = ("--label", "backupd.enable=true", "--label", "backupd.schedule=* * * * * *")
APART = ("--network", "none")


def until(condition: Callable[[], bool]) -> None:
    """Wait for the condition to come true."""
    poll = threading.Event()
    for _ in range(PATIENCE_SECONDS * 20):
        if condition():
            return
        poll.wait(0.1)
    raise AssertionError("waited in vain")


def test_engine_that_restarts_in_the_middle_leaves_nothing_down(
    own_engine: OwnEngine, tmp_path: Path
) -> None:
    """E10: the run fails and is told, nothing half is kept, the application runs, the next run succeeds."""
    own_engine.load(TOOLS, "alpine:3.22")
    engine = Engine.connect(own_engine.host)
    program = Program(engine, tmp_path)
    program.run("init")
    volume = f"{program.name}-data"
    mount = ("-v", f"{volume}:/volume")
    own_engine.docker("volume", "create", *LABELS, volume)
    fill = "head -c 150000000 /dev/urandom > /volume/random"
    own_engine.docker("run", "--rm", *APART, *mount, TOOLS, "sh", "-c", fill)
    always = ("-d", "--name", "app", "--restart", "always")
    own_engine.docker("run", *always, *APART, *mount, TOOLS, "sleep", "3600")

    def state() -> str:
        listed = own_engine.docker("ps", "-a", "--filter", "name=^app$", "--format", "{{.State}}", code=None)
        return listed.stdout.strip()

    daemon = Daemon(program)
    try:
        daemon.wait_for("daemon started")
        program.catch_helper()
        until(lambda: state() == "paused")
        own_engine.restart()
        failed = daemon.wait_for("backup failed", volume=volume)
        assert failed["error"]
        made = daemon.wait_for("backup finished", volume=volume)
        assert daemon.stop(signal.SIGTERM) == 0
        until(lambda: state() == "running")
        assert program.helpers() == []
        assert made["snapshot"] in program.snapshots(volume)
        program.run("verify", "--read-data")
    finally:
        daemon.process.kill()
        daemon.wait()
        engine.close()
