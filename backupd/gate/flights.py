"""One pre-flight at a time for a volume: who asks while it goes on gets its verdict."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from backupd.gate.preflight import Verdict

_Key = tuple[str, str]


class _Flight:
    def __init__(self) -> None:
        self.landed = threading.Event()
        self.verdict = Verdict(False, "the pre-flight broke off")


class Flights:
    """Pre-flights that go on, by volume and creation time: a volume made anew is another one."""

    def __init__(self, preflight: Callable[[Sequence[str]], Mapping[str, Verdict]]) -> None:
        self._preflight = preflight
        self._flying: dict[_Key, _Flight] = {}
        self._lock = threading.Lock()

    def __call__(self, volumes: Mapping[str, str]) -> dict[str, Verdict]:
        """The verdicts of volumes, given with their creation times: one pre-flight for the new ones."""
        mine: dict[str, _Flight] = {}
        all_of_them: dict[str, _Flight] = {}
        with self._lock:
            for key in volumes.items():
                if key not in self._flying:
                    mine[key[0]] = self._flying[key] = _Flight()
                all_of_them[key[0]] = self._flying[key]
        if mine:
            self._fly(mine, volumes)
        for flight in all_of_them.values():
            flight.landed.wait()
        return {volume: flight.verdict for volume, flight in all_of_them.items()}

    def _fly(self, flights: Mapping[str, _Flight], created: Mapping[str, str]) -> None:
        try:
            for volume, verdict in self._preflight(list(flights)).items():
                flights[volume].verdict = verdict
        finally:
            with self._lock:
                for volume in flights:
                    del self._flying[volume, created[volume]]
            for flight in flights.values():
                flight.landed.set()
