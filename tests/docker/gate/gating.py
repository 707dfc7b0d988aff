"""The gate as a process of its own before an engine of the test's own, and the command that installs it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from backupd.gate.gate import PROBE, STATUS
from tests.docker.gate.raw import send
from tests.docker.own_engine import OwnEngine, wait_until

PLUGIN = "backupd-gate"
RESCUE = Path(__file__).parents[3] / "deploy" / "gate-rescue.sh"


class GateProcess:
    """`backupd-gate` on a socket where the engine looks for it."""

    def __init__(self, engine: OwnEngine, directory: Path) -> None:
        self.engine = engine
        self.socket = engine.plugins / f"{PLUGIN}.sock"
        self.directory = directory
        """Where the daemon's socket and the settings are, from the next start on."""
        self.lines: list[dict[str, Any]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.lines = []
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "backupd.gate", "--socket", str(self.socket)),
                *("--daemon", str(self.directory / "state" / "backupd.sock")),
                *("--docker", str(self.engine.socket), "--config", str(self.directory / "config.toml")),
            ],
            stderr=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        wait_until(self.answers)

    def answers(self) -> bool:
        """Does it answer the engine's first question?"""
        with suppress(OSError):
            return send(self.socket, "POST", "/Plugin.Activate") == (200, b'{"Implements":["authz"]}')
        return False

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        assert self._reader
        self._reader.join()

    @property
    def gone(self) -> bool:
        """Has it been ended?"""
        return self._process is None

    def said(self, event: str, **facts: object) -> list[dict[str, Any]]:
        """What it has logged so far of that event, with these facts."""
        wanted = {"event": event, **facts}
        return [line for line in list(self.lines) if wanted.items() <= line.items()]

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr
        with process.stderr as stream:
            for text in stream:
                line = text.decode()
                self.lines.append(json.loads(line) if line.startswith("{") else {"event": line})


def gate_command(engine: OwnEngine, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `backupd gate …` for that engine; its exit code must be `code`."""
    places = (
        *("--socket", str(engine.plugins / f"{PLUGIN}.sock"), "--docker", str(engine.socket)),
        *("--daemon-json", str(engine.daemon_json), "--pid-file", str(engine.pid_file)),
    )
    done = subprocess.run(
        [sys.executable, "-m", "backupd", "gate", *words, *places],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def rescue(engine: OwnEngine) -> str:
    """Run the rescue script with a shell that finds no programs at all; what it said."""
    done = subprocess.run(
        ["/bin/sh", RESCUE, engine.daemon_json, engine.pid_file],
        env={"PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def gated(engine: OwnEngine, directory: Path) -> Iterator[GateProcess]:
    """The gate installed before the engine, and taken away afterwards whatever has become of it."""
    gate = GateProcess(engine, directory)
    try:
        gate.start()
        gate_command(engine, "install")
        yield gate
    finally:
        rescue(engine)
        engine.wait_until(lambda: gate.gone or not is_asked(engine, gate))
        gate.kill()


def is_asked(engine: OwnEngine, gate: GateProcess) -> bool:
    """Does the engine ask the gate?"""
    nonce = uuid.uuid4().hex
    if send(engine.socket, "GET", f"/version?{PROBE}{nonce}")[0] != 200:
        return True
    return nonce.encode() in send(gate.socket, "POST", STATUS)[1]
