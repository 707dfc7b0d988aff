"""The program as a user runs it: a process with settings of its own, which sees no volumes but the test's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

from backupd.engine import labels
from backupd.engine.client import Engine

PATIENCE_SECONDS = 60
_CONFIG = """
storage = "{storage}"
state_dir = "{directory}/state"
instance = "{name}"
host = "test"
timezone = "UTC"
docker_host = "unix://{socket}"

[[volume]]
match = "{name}*"
{rule}

# Other volumes of the engine are none of a test's business, whatever their labels say.
[[volume]]
match = "*"
enable = false
"""


class Program:
    """`backupd` with a repository, a state directory and an instance name of its own."""

    def __init__(
        self, engine: Engine, directory: Path, *, socket: Path | None = None, storage: str | None = None
    ) -> None:
        self.engine = engine
        self._storage = storage or f"{directory}/storage"
        self._socket = socket or engine.socket
        self.name = f"backupd-test-{uuid.uuid4().hex[:8]}"
        self.directory = directory
        self._config = directory / "config.toml"
        self.configure("")

    def configure(self, rule: str) -> None:
        """Let the rule for the test's volumes say this, from the next process on."""
        text = _CONFIG.format(
            directory=self.directory, storage=self._storage, name=self.name, socket=self._socket, rule=rule
        )
        self._config.write_text(text, encoding="utf-8")

    def add_settings(self, text: str) -> None:
        """Let the settings be what they were at first, and these tables, from the next process on."""
        self.configure("")
        with self._config.open("a", encoding="utf-8") as config:
            config.write(text)

    def run(self, *words: str, code: int | None = 0, text: str = "") -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end; its exit code must be `code`, or with None may be any."""
        done = subprocess.run(
            self.command(*words),
            input=text.encode(),
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert code in (None, done.returncode), done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return done

    def json(self, *words: str) -> Any:
        """What a command prints with `--json`."""
        return json.loads(self.run(*words, "--json").stdout)

    def snapshots(self, volume: str) -> list[str]:
        """The ids of a volume's snapshots, the newest last."""
        return [each["snapshot"] for each in self.json("snapshots") if each["volume"]["name"] == volume]

    def command(self, *words: str) -> list[str]:
        """What to execute for a command."""
        return [sys.executable, "-m", "backupd", "--config", str(self._config), *words]

    def helpers(self) -> list[dict[str, Any]]:
        """The helper containers of this instance."""
        label = f"{labels.INSTANCE}={self.name}"
        return list(self.engine.api.containers(all=True, filters={"label": [label]}))

    def see_helper(self) -> str:
        """Wait for a helper that runs on a volume; one without is asked for tar's version."""
        poll = threading.Event()
        for _ in range(PATIENCE_SECONDS * 100):
            for helper in self.helpers():
                if helper["State"] == "running" and any(
                    each["Type"] == "volume" for each in helper["Mounts"]
                ):
                    return str(helper["Id"])
            poll.wait(0.01)
        raise AssertionError("no helper was seen")

    def catch_helper(self) -> str:
        """Wait for a helper that runs, and slow it down, so that its backup goes on until it is let go."""
        helper = self.see_helper()
        # Not paused: an engine may take minutes to remove a paused container.
        self.engine.api.update_container(helper, cpu_period=1_000_000, cpu_quota=2_000)
        return helper

    def let_go(self, helper: str) -> None:
        """Give a helper that was caught its speed back."""
        self.engine.api.update_container(helper, cpu_period=100_000, cpu_quota=400_000)


class Daemon:
    """`backupd run`, or another command that goes on for a time, and what it logs."""

    def __init__(self, program: Program, *words: str) -> None:
        command = program.command(*(words or ("run",)))
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ)
        self.lines: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, event: str, **facts: object) -> dict[str, Any]:
        """The first line of that event with these facts, as soon as it is logged."""

        def found() -> dict[str, Any] | None:
            return next(iter(self.logged(event, **facts)), None)

        with self._news:
            self._news.wait_for(lambda: found() or self._ended, PATIENCE_SECONDS)
            line = found()
        assert line is not None, self.lines
        return line

    def logged(self, event: str, **facts: object) -> list[dict[str, Any]]:
        """The lines so far of that event with these facts."""
        wanted = {"event": event, **facts}
        return [line for line in list(self.lines) if wanted.items() <= line.items()]

    def stop(self, number: int) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return code

    def _read(self) -> None:
        assert self.process.stderr
        with self.process.stderr as stream:
            for text in stream:
                with self._news:
                    self.lines.append(_parsed(text))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


def _parsed(text: bytes) -> dict[str, Any]:
    line = text.decode()
    return json.loads(line) if line.startswith("{") else {"event": line.rstrip("\n")}
