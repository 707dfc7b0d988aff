"""Processes of a test run, which never outlive it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE_SECONDS = 60


class Process:
    """A process that dies with the one that started it, whatever way that ends."""

    def __init__(self, command: Sequence[str], log: Path, *, environ: dict[str, str] | None = None) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environ,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()

    def check(self) -> None:
        """Fail with the end of its log where it has ended."""
        code = self._process.poll()
        if code is not None:
            raise AssertionError(f"exit code {code}: {self._log.read_text(errors='replace')[-2000:]}")


def wait_until(true: Callable[[], bool], *needed: Process) -> None:
    """Wait until something holds, for as long as the processes it needs live."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        for process in needed:
            process.check()
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
