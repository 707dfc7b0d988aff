"""Put the gate before an engine, take it away, and see how it stands.

An engine that is told to use a plugin which does not answer ends itself, and does not start again: so the
gate is asked first, the engine's file changes after that, and what does not come into force is undone.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupd.errors import BackupdError, EngineError, EngineUnreachable
from backupd.gate.asking import ENGINE_SECONDS, ask
from backupd.gate.enginefile import EngineFile
from backupd.gate.gate import ACTIVATE, LEAVE, PROBE, STATUS
from backupd.gate.trouble import Trouble

RELOAD_SECONDS = 60
"""How long an engine may take to do what its file says: it asks a plugin for up to 30 s."""
_RESCUE = "deploy/gate-rescue.sh takes the gate out without backupd"


@dataclass(frozen=True)
class Places:
    """Where the gate and one engine are."""

    gate: Path = Path("/run/docker/plugins/backupd-gate.sock")
    engine: Path = Path("/var/run/docker.sock")
    engine_file: Path = Path("/etc/docker/daemon.json")
    pid_file: Path = Path("/var/run/docker.pid")

    @property
    def plugin(self) -> str:
        """What the engine calls the gate: the name of its socket."""
        return self.gate.stem


@dataclass(frozen=True)
class Standing:
    """How the gate stands: is it in the engine's file, does the engine use it, does it answer?"""

    configured: bool
    active: bool
    version: str | None
    engine_version: str | None
    engine_weakness: str | None
    trouble: str | None

    @property
    def well(self) -> bool:
        """Is every removal asked about?"""
        return self.active and self.version is not None


def install(places: Places) -> None:
    """Put the gate before the engine, at once and for its next start."""
    _check_that_it_answers(places.gate)
    file = EngineFile(places.engine_file)
    if places.plugin in file.plugins() and _asks(places):
        return
    file.add(places.plugin)
    try:
        _reload(places)
        _await(places, present=True)
    except BackupdError:
        file.remove(places.plugin)
        with suppress(BackupdError):
            _reload(places)
        raise


def uninstall(places: Places) -> None:
    """Take the gate away; an engine that does not run starts without it."""
    EngineFile(places.engine_file).remove(places.plugin)
    if _pid(places.pid_file) is not None:
        _reload(places)
        _await(places, present=False)


def standing(places: Places) -> Standing:
    """How the gate stands. Whatever does not answer is told, not raised."""
    troubles: list[str] = []
    configured, in_force, version, engine = False, False, None, None
    try:
        configured = places.plugin in EngineFile(places.engine_file).plugins()
    except BackupdError as error:
        troubles.append(error.message)
    try:
        version = str(_status(places.gate)["version"])
    except Trouble as trouble:
        troubles.append(str(trouble))
    try:
        engine = _engine_version(places.engine)
        in_force = _asks(places)
    except BackupdError as error:
        troubles.append(error.message)
    return Standing(
        configured, in_force, version, engine, engine and weakness(engine), "; ".join(troubles) or None
    )


def allow(places: Places, volumes: list[str]) -> None:
    """Let the next removal of each of these volumes pass unsaved, within ten minutes."""
    try:
        status, answer = ask(places.gate, "POST", LEAVE, {"volumes": volumes}, timeout=ENGINE_SECONDS)
    except Trouble as trouble:
        raise BackupdError(str(trouble), hint="does the gate run? `backupd gate status`") from trouble
    if status != 200 or (answer or {}).get("Err"):
        raise BackupdError(f"the gate gives no leave: {answer}")


def weakness(version: str) -> str | None:
    """What clients can do to authorization plugins of an engine of that version, or None."""
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if not numbers:
        return None
    engine = tuple(int(number) for number in numbers.groups())
    if engine >= (29, 3, 1) or (25, 0, 16) <= engine < (26, 0, 0):
        return None
    return (
        "clients can hide the body of a request from authorization plugins (CVE-2024-41110, CVE-2026-34040);"
        " this gate looks at no body, others may"
    )


def _check_that_it_answers(gate: Path) -> None:
    try:
        status, answer = ask(gate, "POST", ACTIVATE, timeout=ENGINE_SECONDS)
    except Trouble as trouble:
        raise BackupdError(
            f"the gate is not there: {trouble}",
            hint="start it first: systemctl enable --now backupd-gate.socket, or backupd-gate by hand",
        ) from trouble
    if status != 200 or "authz" not in ((answer or {}).get("Implements") or ()):
        raise BackupdError(f"what answers at {gate} is no authorization plugin")


def _status(gate: Path) -> dict[str, Any]:
    status, answer = ask(gate, "POST", STATUS, timeout=ENGINE_SECONDS)
    if status != 200 or not isinstance(answer, dict):
        raise Trouble(f"what answers at {gate} is no gate of backupd")
    return answer


def _engine_version(engine: Path, query: str = "") -> str:
    try:
        status, answer = ask(engine, "GET", f"/version?{query}", timeout=ENGINE_SECONDS)
    except Trouble as trouble:
        raise EngineUnreachable(str(trouble), hint=_RESCUE) from trouble
    if status != 200 or not isinstance(answer, dict):
        said = (answer or {}).get("message", status)
        raise EngineError(f"the engine answered when asked for its version: {said}", hint=_RESCUE)
    return str(answer.get("Version", "unknown"))


def _asks(places: Places) -> bool:
    """Does this engine ask this gate? What the engine says of itself is not true after a reload."""
    nonce = secrets.token_hex(8)
    _engine_version(places.engine, PROBE + nonce)
    try:
        return _status(places.gate).get("probed") == nonce
    except Trouble:
        return False


def _await(places: Places, *, present: bool) -> None:
    """Wait until the engine does what its file says."""
    poll = threading.Event()
    deadline = time.monotonic() + RELOAD_SECONDS
    while not _obeys(places, present):
        if time.monotonic() > deadline:
            raise EngineError(
                f"the engine did not {'take' if present else 'drop'} the gate",
                hint="its log says why; plugins named on dockerd's command line rule out those in its file",
            )
        poll.wait(0.2)


def _obeys(places: Places, present: bool) -> bool:
    """An engine whose plugin has died answers nobody until it has dropped it."""
    with suppress(EngineError):
        return _asks(places) == present
    return False


def _reload(places: Places) -> None:
    """Have the engine read its file again."""
    pid = _pid(places.pid_file)
    if pid is not None:
        os.kill(pid, signal.SIGHUP)
        return
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        raise EngineError(
            f"no process id of dockerd in {places.pid_file}", hint="name the right one with --pid-file"
        )
    done = subprocess.run([systemctl, "reload", "docker"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EngineError(f"systemctl reload docker failed: {done.stderr.strip()}")


def _pid(pid_file: Path) -> int | None:
    """The process that the file names, if it is a dockerd that runs."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return pid if command == "dockerd" else None
