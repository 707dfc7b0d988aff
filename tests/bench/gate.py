"""What the gate costs those who remove nothing: `docker ps` a thousand times with it and without.

    eval "$(tests/engine/env)"; .venv/bin/python -m tests.bench.gate [TIMES]

Rounds with and without take turns, so that what else the machine does falls on both; the ratio of the medians
is what counts (goal: at most 1.2). Besides `docker ps` as a person types it stands the bare request, for the
program itself takes longer than its answer does.
"""

from __future__ import annotations

import http.client
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.docker.gate.gating import GateProcess, gate_command
from tests.docker.own_engine import OwnEngine, make, versions, why_not

ROUNDS = 10
GOAL = 1.2


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def _bare(engine: OwnEngine) -> Callable[[], object]:
    connection = _Connection(engine.socket)

    def ask() -> None:
        connection.request("GET", "/containers/json")
        connection.getresponse().read()

    return ask


def _typed(engine: OwnEngine) -> Callable[[], object]:
    return lambda: subprocess.run(
        ["docker", "ps"], env=engine.environment, stdout=subprocess.DEVNULL, check=True
    )


def _seconds(times: int, what: Callable[[], object]) -> list[float]:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        what()
        taken.append(time.perf_counter() - begun)
    return taken


def _compare(engine: OwnEngine, times: int, kind: Callable[[OwnEngine], Callable[[], object]]) -> str:
    """Medians in milliseconds, and their ratio."""
    without: list[float] = []
    beside: list[float] = []
    for _ in range(ROUNDS):
        for taken, action in ((without, "uninstall"), (beside, "install")):
            gate_command(engine, action)
            what = kind(engine)
            what()
            taken += _seconds(times // ROUNDS, what)
    plain, gated = statistics.median(without) * 1000, statistics.median(beside) * 1000
    return f"{plain:8.2f} ms without {gated:8.2f} ms with   ratio {gated / plain:.2f} (goal {GOAL})"


def main() -> None:
    """Print a line for each engine and kind of request."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for version in versions():
        if reason := why_not(version):
            print(f"{version}: {reason}")
            continue
        engine = make(version)
        gate = GateProcess(engine, Path(tempfile.mkdtemp()))
        try:
            engine.start()
            gate.start()
            for name, kind in (("docker ps", _typed), ("bare request", _bare)):
                print(
                    f"engine {engine.info()['ServerVersion']:<16} {name:<13} {_compare(engine, times, kind)}"
                )
        finally:
            engine.remove()
            gate.kill()


if __name__ == "__main__":
    main()
