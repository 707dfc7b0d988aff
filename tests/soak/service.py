"""The daemon as a service manager keeps it: started again whenever it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.docker.own_engine import OwnEngine

INSTANCE = "backupd-soak"
_CONFIG = """
storage = "{directory}/storage"
state_dir = "{directory}/state"
instance = "{instance}"
host = "soak"
timezone = "UTC"
docker_host = "{host}"

[default]
schedule = "*/10 * * * * *"
retention = "last=8"

[log]
format = "json"
"""


class Service:
    """`backupd run`, and the other commands on the same settings."""

    def __init__(self, engine: OwnEngine, directory: Path) -> None:
        self._engine = engine
        self._config = directory / "config.toml"
        self.log = directory / "backupd.log"
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._keeper: threading.Thread | None = None
        self.starts = 0
        self.bad_ends: list[int] = []
        text = _CONFIG.format(directory=directory, instance=INSTANCE, host=engine.host)
        self._config.write_text(text, encoding="utf-8")

    def command(self, *words: str) -> list[str]:
        """What to execute for a command."""
        return [sys.executable, "-m", "backupd", "--config", str(self._config), *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run another command to its end."""
        return subprocess.run(self.command(*words), capture_output=True, timeout=600, check=False)

    def json(self, *words: str) -> Any:
        """What a command prints with --json; it must succeed."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def start(self) -> None:
        """Start it, and again whenever it ends."""
        self._stopping.clear()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False where there is no process at the moment."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                return False
            self._process.send_signal(number)
            return True

    def stop(self) -> int | None:
        """End it as a service manager does, with two minutes of grace; its exit code."""
        self._stopping.set()
        self.send(signal.SIGTERM)
        if self._keeper is not None:
            self._keeper.join()
        return self._process.returncode if self._process else None

    def events(self) -> list[dict[str, Any]]:
        """The lines of the log so far."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def _keep(self) -> None:
        while not self._stopping.is_set():
            with self.log.open("ab") as log, self._lock:
                self._process = subprocess.Popen(self.command("run"), stderr=log, env=os.environ)
                self.starts += 1
            code = self._ended(self._process)
            if code not in (0, 1, -signal.SIGKILL):
                self.bad_ends.append(code)
            self._stopping.wait(1)

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        while True:
            try:
                return process.wait(1)
            except subprocess.TimeoutExpired:
                if self._stopping.is_set():
                    return process.wait(120)
