"""What a daemon costs that has nothing to do, and then all at once: `python -m tests.bench.idle`.

Goals: under 100 MB and 1 % of a core while it waits; all volumes saved, never more at work than the limit.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backupd.engine.client import Engine
from tests.docker.program import Daemon, Program

TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE_SECONDS = 3600
NEVER = 'enable = true\nschedule = "0 0 1 1 *"'


def main() -> int:
    """Measure on the engine of DOCKER_HOST."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--volumes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    engine = Engine.connect()
    with tempfile.TemporaryDirectory() as directory:
        program = Program(engine, Path(directory))
        program.run("init")
        program.configure(NEVER)
        names = [f"{program.name}-{uuid.uuid4().hex[:8]}" for _ in range(given.volumes)]
        try:
            for name in names:
                engine.api.create_volume(name, labels={"backupd.test": "true"})
            _measure(program, names, given.seconds)
        finally:
            for name in names:
                engine.api.remove_volume(name, force=True)
    return 0


def _measure(program: Program, names: list[str], seconds: float) -> None:
    daemon = Daemon(program)
    daemon.wait_for("daemon started")
    _wait(lambda: len(daemon.logged("volume scheduled")) >= len(names))
    threading.Event().wait(5)
    before, began = _cpu_seconds(daemon), time.monotonic()
    threading.Event().wait(seconds)
    share = (_cpu_seconds(daemon) - before) / (time.monotonic() - began)
    _tell(f"idle with {len(names)} volumes: {_resident(daemon):.0f} MB, {100 * share:.2f} % of a core")
    point = datetime.now(UTC) + timedelta(seconds=15)
    program.configure(f'enable = true\nschedule = "{point:%-S %-M %-H %-d %-m} *"')
    daemon.process.send_signal(signal.SIGHUP)
    most = _all_done(program, daemon, names)
    took = (datetime.now(UTC) - point).total_seconds()
    _tell(f"{len(names)} due at once: done in {took:.0f} s, at most {most} at work (limit 2)")
    _tell(f"afterwards: {_resident(daemon):.0f} MB")
    daemon.stop(signal.SIGTERM)


def _all_done(program: Program, daemon: Daemon, names: list[str]) -> int:
    """Wait until each volume is saved; how many were seen at work together."""
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, len(program.json("status")["running"]))
        return {line["volume"] for line in daemon.logged("backup finished")} >= set(names)

    _wait(done)
    return most


def _wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("waited for an hour in vain")
        threading.Event().wait(0.5)


def _cpu_seconds(daemon: Daemon) -> float:
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _resident(daemon: Daemon) -> float:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1000


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
