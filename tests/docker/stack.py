"""A compose project of a test's own: PostgreSQL with rows, and what backupd and docker say to it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from backupd.volume import COMPOSE_PROJECT
from tests.docker.program import PATIENCE_SECONDS, Program

_FILE = """
name: {name}
services:
  db:
    image: postgres:16-alpine
    network_mode: none
    environment: {{POSTGRES_PASSWORD: test, POSTGRES_DB: bank}}
    volumes: ["data:/var/lib/postgresql/data"]
    labels: {{backupd.test: "true"}}
  app:
    image: alpine:3.22
    network_mode: none
    command: ["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"]
    depends_on: [db]
    volumes: ["files:/files"]
    labels: {{backupd.test: "true"}}
volumes:
  data: {{labels: {{backupd.test: "true", {data}}}}}
  files: {{labels: {{backupd.test: "true", {files}}}}}
"""
PROTECTED = 'backupd.enable: "true"'
HELD = PROTECTED + ', backupd.guard: "hold"'


class Stack:
    """The project; its volumes are `data` and `files`, the latter not protected unless labels say so."""

    def __init__(self, program: Program, data: str, files: str) -> None:
        self.program = program
        self.name = f"{program.name}-stack"
        self.data, self.files = f"{self.name}_data", f"{self.name}_files"
        self.file = program.directory / "compose.yaml"
        self.file.write_text(_FILE.format(name=self.name, data=data, files=files), encoding="utf-8")

    @property
    def environment(self) -> dict[str, str]:
        """What both docker and backupd see."""
        return {**os.environ, "DOCKER_HOST": f"unix://{self.program.engine.socket}"}

    def docker(self, *words: str, code: int = 0) -> str:
        """What docker itself prints, after whichever words."""
        return _run(["docker", *words], self.environment, code)

    def compose(self, *words: str, code: int = 0) -> str:
        """What compose itself prints."""
        return self.docker("compose", "-f", str(self.file), *words, code=code)

    def guarded(self, *words: str, code: int = 0, extra: Mapping[str, str] | None = None) -> str:
        """What `backupd compose` on this project prints, with docker's own words."""
        command = self.program.command("compose", "-f", str(self.file), *words)
        return _run(command, {**self.environment, **(extra or {})}, code)

    def backupd(self, *words: str, code: int = 0) -> str:
        """What any command of backupd prints."""
        return _run(self.program.command(*words), self.environment, code)

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """Start `backupd compose` on this project and leave it running."""
        command = self.program.command("compose", "-f", str(self.file), *words)
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def up(self) -> None:
        """Start it and wait for the database."""
        self.compose("up", "-d")
        deadline = time.monotonic() + PATIENCE_SECONDS
        # over TCP: while it is being initialised it answers on its socket only
        while self.tried("pg_isready", "-h", "127.0.0.1", "-d", "bank") != 0:
            assert time.monotonic() < deadline, self.compose("logs", "db")
            time.sleep(0.2)

    def tried(self, *words: str) -> int:
        """The exit code of a command in the database's container."""
        command = ["docker", "compose", "-f", str(self.file), "exec", "-T", "db", *words]
        return subprocess.run(command, env=self.environment, capture_output=True).returncode

    def sql(self, text: str) -> str:
        """What the database answers."""
        return self.compose("exec", "-T", "db", "psql", "-U", "postgres", "-tAc", text, "bank").strip()

    def write_rows(self, count: int) -> None:
        """Commit rows, each on its own."""
        self.sql("create table if not exists rows (n int)")
        self.sql(
            f"do $$ begin for n in 1..{count} loop insert into rows values (n); commit; end loop; end $$"
        )

    def rows(self) -> str:
        """How many rows there are, and their sum."""
        return self.sql("select count(*), sum(n) from rows")

    def running(self) -> set[str]:
        """The services that run."""
        return set(self.compose("ps", "--services", "--status", "running").split())

    def volumes(self) -> set[str]:
        """Which of its volumes there are."""
        return {name for name in (self.data, self.files) if self.has(name)}

    def has(self, volume: str) -> bool:
        """Whether there is a volume of that name."""
        return any(each["Name"] == volume for each in self.program.engine.api.volumes()["Volumes"] or ())

    def snapshots(self, volume: str | None = None) -> list[dict[str, Any]]:
        """The snapshots of the database's volume, or of another."""
        found = json.loads(self.program.run("snapshots", "--json").stdout)
        return [each for each in found if each["volume"]["name"] == (volume or self.data)]

    def remove(self) -> None:
        """Leave nothing of it."""
        api = self.program.engine.api
        of_project = {"label": [f"{COMPOSE_PROJECT}={self.name}"]}
        for volume in (self.data, self.files):
            for user in api.containers(all=True, filters={"volume": volume}):
                api.remove_container(user["Id"], force=True, v=True)
        for container in api.containers(all=True, filters=of_project):
            api.remove_container(container["Id"], force=True, v=True)
        for volume in self.volumes():
            api.remove_volume(volume)


@contextmanager
def stack_of(program: Program, *, data: str = PROTECTED, files: str = "") -> Iterator[Stack]:
    """A project that is gone afterwards."""
    made = Stack(program, data, files)
    try:
        yield made
    finally:
        made.remove()


def _run(command: list[str], environment: Mapping[str, str], code: int) -> str:
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=4 * PATIENCE_SECONDS,
        check=False,
    )
    text = done.stdout.decode()
    assert done.returncode == code, text
    assert "Traceback" not in text
    return text
