"""What must be true when the killing is over."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.docker.own_engine import wait_until
from tests.soak.engine import MortalEngine
from tests.soak.service import INSTANCE, Service
from tests.soak.stack import CONTAINERS, VOLUMES, Stack

RECOVERY_SECONDS = 180.0


class Judgement:
    """Looks at everything once; `faults` is what it found to be wrong."""

    def __init__(self, engine: MortalEngine, service: Service, stack: Stack) -> None:
        self._engine, self._service, self._stack = engine, service, stack
        self.faults: list[str] = []
        self.restored: Counter[str] = Counter()
        self.windows = 0

    def pass_(self) -> None:
        """Let everything recover, end the daemon, and look."""
        self._hold("every volume is saved again", self._saved_again)
        self._hold("the daemon ends when it is told to", self._ends)
        self._hold("nothing is left paused or stopped", self._all_run)
        self._hold("no helper is left", self._no_helpers)
        self._hold("the repository is whole", self._verified)
        self._restore_all()

    def _hold(self, what: str, check: Callable[[], None]) -> None:
        try:
            check()
        except Exception as error:
            self.faults.append(f"not true: {what}: {error}")
            sys.stderr.write(f"[soak] NOT TRUE: {what}: {error}\n")
        else:
            sys.stderr.write(f"[soak] {what}\n")

    def _saved_again(self) -> None:
        now = datetime.now(UTC)

        def saved() -> bool:
            done = self._service.run("snapshots", "--json")
            if done.returncode != 0:
                return False
            times = newest(self._service.json("snapshots"))
            return all(times.get(volume, "") > now.strftime("%Y%m%dT%H%M%S") for volume in VOLUMES)

        wait_until(saved, RECOVERY_SECONDS)

    def _ends(self) -> None:
        code = self._service.stop()
        assert code == 0, f"exit code {code}"
        assert self._service.bad_ends == [], f"it had ended with {self._service.bad_ends}"

    def _all_run(self) -> None:
        words = ("inspect", "-f", "{{.Name}} {{.State.Status}}", *CONTAINERS)
        states = self._engine.docker(*words).stdout.split("\n")
        wrong = [state for state in states if state and not state.endswith(" running")]
        assert not wrong, ", ".join(wrong)

    def _no_helpers(self) -> None:
        label = f"label=backupd.instance={INSTANCE}"
        left = self._engine.docker("ps", "-aq", "--filter", label).stdout.split()
        assert not left, left

    def _verified(self) -> None:
        done = self._service.run("verify", "--read-data")
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()

    def _restore_all(self) -> None:
        windows: dict[str, dict[str, int]] = defaultdict(dict)
        for manifest in self._service.json("snapshots"):
            volume, snapshot = manifest["volume"]["name"], manifest["snapshot"]
            kind = volume.removeprefix("soak_")

            def restored(volume: str = volume, snapshot: str = snapshot, kind: str = kind) -> None:
                orders = self._restored(volume, snapshot, kind)
                self.restored[volume] += 1
                if manifest.get("window"):  # noqa: B023 - called at once
                    windows[manifest["window"]["run"]][kind] = orders  # noqa: B023

            self._hold(f"{volume} restores from {snapshot}", restored)
        for run, orders in windows.items():
            if orders.keys() >= {"pg", "redis"}:
                self.windows += 1
                self._hold(f"the databases of window {run} agree", lambda orders=orders: _agree(orders))

    def _restored(self, volume: str, snapshot: str, kind: str) -> int:
        target = f"restored-{snapshot[-4:]}-{kind}"
        done = self._service.run("restore", volume, "--snapshot", snapshot, "--to", target, "--yes")
        assert done.returncode == 0, done.stderr.decode()
        try:
            return self._stack.check(kind, f"check-{target}", target)
        finally:
            self._engine.docker("volume", "rm", "-f", target, code=None)


def newest(manifests: list[dict[str, Any]]) -> dict[str, str]:
    """The id of each volume's newest snapshot."""
    found: dict[str, str] = {}
    for manifest in manifests:
        name = manifest["volume"]["name"]
        found[name] = max(found.get(name, ""), manifest["snapshot"])
    return found


def _agree(orders: dict[str, int]) -> None:
    behind = orders["pg"] - orders["redis"]
    assert behind in (0, 1), f"PostgreSQL knows {orders['pg']} orders, Redis {orders['redis']}"
