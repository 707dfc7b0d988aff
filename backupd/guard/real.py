"""The docker command itself, and what it knows better than anybody: its engine and its project."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from backupd.errors import BackupdError
from backupd.guard.argv import Command
from backupd.guard.removal import Project

_EVERY_PROFILE = ("--profile", "*")
_LAST_LINES = 3
FORCE = "--force-without-backup"


def executable() -> str:
    """Where docker is; an error if it is nowhere."""
    if found := shutil.which("docker"):
        return found
    raise BackupdError("there is no docker command on PATH", hint="install Docker's command line")


def become(words: Sequence[str]) -> NoReturn:
    """Be docker with these words from here on: terminal, signals and exit code are its own."""
    sys.stdout.flush()
    os.execv(executable(), ["docker", *words])  # noqa: S606


class Docker:
    """The docker that a command would run, with the options that say which engine and which project."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._executable = executable()

    def engine(self) -> tuple[str, str]:
        """Which engine it talks to, as `engine.memory.identity` says it."""
        done = self._ask(*self._command.docker, "info", "--format", "[{{json .ID}},{{json .DockerRootDir}}]")
        try:
            identity, root = json.loads(done.stdout)
        except ValueError:
            identity = root = ""
        if done.returncode or not (identity and root):
            raise BackupdError(
                f"docker cannot reach its engine: {_said(done)}",
                hint="check that the Docker Engine runs, and the context, -H or DOCKER_HOST that docker uses",
            )
        return str(identity), str(root)

    def project(self, environ: Mapping[str, str]) -> Project | None:
        """The compose project of the command, with the volumes of all its profiles; None if it has none.

        External volumes are left out: compose never removes them.
        """
        if not self._command.compose:
            return None
        done = self._config(_EVERY_PROFILE)
        if done.returncode:
            done = self._config()
        if done.returncode == 0:
            described = json.loads(done.stdout)
            volumes: Mapping[str, Mapping[str, object]] = described.get("volumes") or {}
            names = frozenset(str(each["name"]) for each in volumes.values() if not each.get("external"))
            return Project(described["name"], names)
        # Without a file compose goes by the labels of what it finds.
        if name := self._command.project or environ.get("COMPOSE_PROJECT_NAME"):
            return Project(name)
        raise BackupdError(
            f"docker compose cannot say which project this is: {_said(done)}",
            hint=f"mend that first; {FORCE} runs the command without a look at it",
        )

    def stop(self) -> None:
        """Stop the services that the command is about, in compose's own order."""
        command = self._command
        words = (*command.docker, *command.compose, "stop", *(command.services or ()))
        done = subprocess.run([self._executable, *words], stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise BackupdError(
                f"docker compose stop ended with exit code {done.returncode}",
                hint="its own words are above; nothing was removed",
            )

    def run(self) -> int:
        """Run the command itself at this terminal; its exit code. Signals are its business meanwhile."""
        child: subprocess.Popen[bytes] | None = None

        def forward(number: int, frame: FrameType | None) -> None:
            # A terminal sends its interrupts to both.
            if child is not None and not (number == signal.SIGINT and os.isatty(0)):
                child.send_signal(number)

        with _handled(forward):
            child = subprocess.Popen([self._executable, *self._command.words])
            code = child.wait()
        return code if code >= 0 else 128 - code

    def _config(self, options: Sequence[str] = ()) -> subprocess.CompletedProcess[bytes]:
        command = self._command
        return self._ask(*command.docker, *command.compose, *options, "config", "--format", "json")

    def _ask(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self._executable, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return "; ".join(line.strip() for line in lines[-_LAST_LINES:]) or f"exit code {done.returncode}"


@contextmanager
def _handled(handler: object) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
