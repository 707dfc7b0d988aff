"""A process that calms containers and stops itself after the step of a given number, to be killed there.

    python -m tests.docker.quiet.stepper HOST JOURNAL STEP CONTAINER=TREATMENT…

A step is a write to the journal, or a call that changes something in the engine. Treatments: pause, stop,
hooks. Its last line names the step at which it stopped.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker

from backupd.engine.attachment import Execution
from backupd.engine.client import Engine
from backupd.engine.journal import Journal
from backupd.engine.quiesce import Patient
from backupd.treatment import Hook, Treatment
from tests.docker.quiet.calm import known, quiet_of

TREATMENTS = {
    "pause": Treatment("pause"),
    "stop": Treatment("stop"),
    "hooks": Treatment(
        "none",
        pre=(Hook(("touch", "/tmp/flag")),),
        post=(Hook(("rm", "-f", "/tmp/flag")), Hook(("touch", "/tmp/post"))),
    ),
}
STEPS = (
    (Journal, ("record", "erase")),
    (docker.APIClient, ("pause", "unpause", "stop", "start", "exec_create")),
    (Execution, ("__init__",)),
)


class Steps:
    """Counts, and stops the process after the one that was asked for."""

    def __init__(self, last: int) -> None:
        self._last = last
        self._done = 0

    def counted(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        """The same, as a step."""

        @functools.wraps(act)
        def step(*arguments: Any, **named: Any) -> Any:
            result = act(*arguments, **named)
            self._done += 1
            if self._done == self._last:
                print(name, flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)
            return result

        return step


def main(host: str, journal: str, last: str, *containers: str) -> None:
    """Calm them, and let them go on."""
    engine = Engine.connect(host or None)
    patients = [
        Patient(known(engine, container), TREATMENTS[treatment])
        for container, treatment in (each.split("=") for each in containers)
    ]
    steps = Steps(int(last))
    for owner, names in STEPS:
        for name in names:
            setattr(owner, name, steps.counted(name, getattr(owner, name)))
    with quiet_of(engine, Journal(Path(journal)), lambda: patients):
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
