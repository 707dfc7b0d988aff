"""Random kills of everything that a backup needs."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.soak.engine import MortalEngine
from tests.soak.service import INSTANCE, Service
from tests.soak.stack import CONTAINERS

AIM_SECONDS = 20
"""How long to wait for a moment that is worth a kill; then it is done at any moment."""


class Kills:
    """Does the worst at moments that a seed chooses, and says what it did."""

    def __init__(self, engine: MortalEngine, service: Service, seed: int) -> None:
        self._engine, self._service = engine, service
        self._chance = random.Random(seed)
        self._began = time.monotonic()
        self.done: Counter[str] = Counter()

    def go_on(self, seconds: float) -> None:
        """Kill for so long, with some seconds between."""
        ways: list[tuple[str, int, Callable[[], None]]] = [
            ("daemon killed", 2, lambda: self._signal(signal.SIGKILL)),
            ("daemon killed while containers stand still", 4, self._in_the_quiet),
            ("daemon told to stop", 2, lambda: self._signal(signal.SIGTERM)),
            ("daemon told to reload", 1, lambda: self._signal(signal.SIGHUP)),
            ("helper killed", 4, self._helper),
            ("engine killed", 2, self._engine.crash),
            ("engine killed while containers stand still", 1, self._engine_in_the_quiet),
            ("engine restarted", 1, self._engine.bounce),
        ]
        while time.monotonic() - self._began < seconds:
            name, _, way = self._chance.choices(ways, [weight for _, weight, _ in ways])[0]
            pause = self._chance.uniform(2, 15)
            self._say(f"{name}, then {pause:.0f} s of rest")
            way()
            self.done[name] += 1
            threading.Event().wait(pause)

    def _signal(self, number: signal.Signals) -> None:
        self._wait(lambda: self._service.send(number))

    def _in_the_quiet(self) -> None:
        self._wait(self._quiet)
        self._signal(signal.SIGKILL)

    def _engine_in_the_quiet(self) -> None:
        self._wait(self._quiet)
        self._engine.crash()

    def _helper(self) -> None:
        self._wait(lambda: self._helpers() != [])
        for helper in self._helpers():
            self._engine.docker("kill", helper, code=None)

    def _helpers(self) -> list[str]:
        label = f"label=backupd.instance={INSTANCE}"
        return self._engine.docker("ps", "-q", "--filter", label, code=None).stdout.split()

    def _quiet(self) -> bool:
        listed = self._engine.docker("ps", "-a", "--format", "{{.Names}} {{.State}}", code=None).stdout
        states = dict(line.split() for line in listed.splitlines())
        return any(states.get(name) in ("paused", "exited") for name in CONTAINERS)

    def _wait(self, moment: Callable[[], bool]) -> None:
        until = time.monotonic() + AIM_SECONDS
        while not moment() and time.monotonic() < until:
            threading.Event().wait(0.02)

    def _say(self, text: str) -> None:
        sys.stderr.write(f"[soak {time.monotonic() - self._began:5.0f} s] {text}\n")
