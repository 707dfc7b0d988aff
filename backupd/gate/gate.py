"""The decision: may this request reach the engine?"""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from backupd import __version__
from backupd.gate.passes import Passes
from backupd.gate.preflight import Verdict
from backupd.gate.request import Reach, Removal, removal
from backupd.gate.trouble import Trouble

ACTIVATE = "/Plugin.Activate"
REQUEST = "/AuthZPlugin.AuthZReq"
RESPONSE = "/AuthZPlugin.AuthZRes"
LEAVE = "/Backupd.Allow"
STATUS = "/Backupd.Status"
PROBE = "backupd-gate-probe="
"""In the target of a request to the engine: the gate says afterwards that it has been asked about it."""
OWN_AGENT = "backupd/"
"""How the name of backupd's own client begins. What it removes it has saved, or made for a moment;
asking the daemon about it would make the daemon wait for itself."""
HELPER_SECONDS = 60
"""How long a helper may take to go after the pre-flight; until then the engine would say 409."""

_ALLOWED = b'{"Allow":true}'
_MALFORMED = (
    "the gate could not read this request, and what cannot be read could destroy a volume; try again, or see"
    " `backupd gate status`"
)


class EngineView(Protocol):
    """What the gate asks the engine: see `asking.Engine`."""

    def created(self, volume: str) -> str | None:
        """When the volume was created; None if there is none."""

    def prunable(self) -> list[str]:
        """The volumes that no container refers to."""

    def foreign(self) -> list[str]:
        """The volumes that plugins keep."""

    def helpers(self, volume: str) -> list[str]:
        """The helpers that refer to the volume."""


class Gate:
    """Answers the engine's plugin protocol. Any number of threads may ask."""

    def __init__(
        self,
        engine: EngineView,
        saved: Callable[[Mapping[str, str]], Mapping[str, Verdict]],
        passes: Passes,
    ) -> None:
        self._engine = engine
        self._saved = saved
        self._passes = passes
        self._probed = ""

    def answer(self, path: str, body: bytes) -> bytes:
        """The JSON that answers a request for `path`; whatever goes wrong inside is a denial."""
        if path == RESPONSE:
            return _ALLOWED
        if path == REQUEST:
            return self._authorise(body)
        if path == ACTIVATE:
            return b'{"Implements":["authz"]}'
        if path == LEAVE:
            return self._give_leave(body)
        if path == STATUS:
            return json.dumps({"version": __version__, "probed": self._probed}).encode()
        return json.dumps({"Err": f"the gate does not know {path}"}).encode()

    def _authorise(self, body: bytes) -> bytes:
        try:
            denial = self._denial(body)
        except Exception as error:
            traceback.print_exc()
            denial = f"the gate failed, and the request was not let through: {error}"
        if denial is None:
            return _ALLOWED
        return json.dumps({"Allow": False, "Msg": denial}).encode()

    def _denial(self, body: bytes) -> str | None:
        """Why the request must not pass, or None."""
        try:
            asked = json.loads(body)
            method, target = asked["RequestMethod"], asked["RequestUri"]
            found = removal(method, target)
        except (ValueError, TypeError, KeyError, AttributeError):
            return _MALFORMED
        if found.reach is Reach.NOTHING:
            if PROBE in target:
                self._probed = target.rpartition(PROBE)[2]
            return None
        if found.reach is Reach.UNCLEAR:
            return _MALFORMED
        if found.reach is Reach.NAMED and _is_own(asked):
            return None
        return self._denial_of(found)

    def _denial_of(self, found: Removal) -> str | None:
        begun = time.monotonic()
        volumes: list[str] = []
        try:
            volumes = self._meant(found)
            denial = self._unsaved(volumes)
        except Trouble as trouble:
            denial = f"nothing was removed, because it is not known what would go: {trouble}"
        _log(
            "removal denied" if denial else "removal allowed",
            volumes=volumes,
            seconds=round(time.monotonic() - begun, 3),
            error=denial,
        )
        return denial

    def _meant(self, found: Removal) -> list[str]:
        if found.reach is Reach.NAMED:
            return [found.volume]
        return self._engine.prunable() if found.reach is Reach.PRUNABLE else self._engine.foreign()

    def _unsaved(self, volumes: Iterable[str]) -> str | None:
        """Why one of them must stay, or None once all that are protected are saved."""
        created = {volume: self._engine.created(volume) for volume in volumes}
        there = {
            volume: when
            for volume, when in created.items()
            if when is not None and not self._passes.take(volume)
        }
        if not there:
            return None
        _log("removal waits", volumes=list(there))
        verdicts = self._saved(there)
        failures = [_told(volume, verdict) for volume, verdict in verdicts.items() if not verdict.ok]
        if failures:
            return "; ".join(failures)
        for volume in there:
            self._await_helpers(volume)
        return None

    def _await_helpers(self, volume: str) -> None:
        """Wait until no helper refers to the volume any more."""
        poll = threading.Event()
        deadline = time.monotonic() + HELPER_SECONDS
        while self._engine.helpers(volume):
            if time.monotonic() > deadline:
                raise Trouble(f"a helper of backupd still uses volume {volume}")
            poll.wait(0.1)

    def _give_leave(self, body: bytes) -> bytes:
        try:
            volumes = [str(volume) for volume in json.loads(body)["volumes"]]
        except (ValueError, TypeError, KeyError):
            return b'{"Err":"name the volumes"}'
        self._passes.give(volumes)
        _log("leave given", volumes=volumes)
        return b"{}"


def _is_own(asked: Mapping[str, Any]) -> bool:
    headers = asked.get("RequestHeaders") or {}
    return str(headers.get("User-Agent", "")).startswith(OWN_AGENT)


def _told(volume: str, verdict: Verdict) -> str:
    hint = f" ({verdict.hint})" if verdict.hint else ""
    return (
        f"volume {volume} stays, for it could not be saved: {verdict.reason or 'no reason was given'}{hint};"
        f" to remove it unsaved: backupd gate allow {volume}, then once more"
    )


def _log(event: str, **facts: object) -> None:
    said = {key: value for key, value in facts.items() if value is not None}
    sys.stderr.write(json.dumps({"event": event, **said}) + "\n")
    sys.stderr.flush()
