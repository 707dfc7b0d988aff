"""Containers of many kinds that a test calms; they go away with it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest
from docker.errors import NotFound

from backupd.engine.client import Engine
from backupd.volume import Container
from tests.docker.conftest import SHELL_IMAGE, TEST_LABEL
from tests.docker.quiet.calm import known, wait_for

OBEDIENT = "trap 'exit 0' TERM; touch /tmp/up; while :; do sleep 0.1; done"
"""Ends at once, and well, when it is told to."""

STUBBORN = "trap '' TERM; touch /tmp/up; while :; do sleep 0.1; done"
"""Does not end before it is killed."""


class Stage:
    """Containers of one test on one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.project = f"backupd-test-{uuid.uuid4().hex[:8]}"
        self._ids: list[str] = []

    def start(
        self,
        script: str = OBEDIENT,
        *,
        volume: str | None = None,
        labels: Mapping[str, str] | None = None,
        host: Mapping[str, Any] | None = None,
        run: bool = True,
        **config: Any,
    ) -> Container:
        """A container whose shell runs the script; where it touches /tmp/up that is waited for."""
        api = self.engine.api
        made = api.create_container(
            SHELL_IMAGE,
            ["sh", "-c", script],
            name=f"{self.project}-{len(self._ids)}",
            labels={TEST_LABEL: "true", **(labels or {})},
            host_config=api.create_host_config(
                **{
                    "network_mode": "none",
                    "binds": [f"{volume}:/volume"] if volume else [],
                    **(host or {}),
                }
            ),
            **config,
        )["Id"]
        self._ids.append(made)
        if run:
            api.start(made)
            if "/tmp/up" in script:
                wait_for(lambda: self.succeeds(made, "test", "-e", "/tmp/up"))
        return known(self.engine, made)

    def serve(self, service: str, script: str = OBEDIENT, depends_on: str = "", **more: Any) -> Container:
        """A container as compose makes it for a service of the stage's project."""
        labels = {
            "com.docker.compose.project": self.project,
            "com.docker.compose.service": service,
            "com.docker.compose.container-number": "1",
            "com.docker.compose.depends_on": depends_on,
        }
        return self.start(script, labels=labels, **more)

    def inspect(self, container: Container) -> Mapping[str, Any]:
        """The engine's word on its state."""
        found: Mapping[str, Any] = self.engine.api.inspect_container(container.id)["State"]
        return found

    def status(self, container: Container) -> str:
        """Running, paused, exited, …"""
        return str(self.inspect(container)["Status"])

    def succeeds(self, container: str, *words: str) -> bool:
        """Whether a command in the container ends with 0."""
        api = self.engine.api
        made = api.exec_create(container, list(words))["Id"]
        api.exec_start(made)
        while api.exec_inspect(made)["Running"]:
            time.sleep(0.02)
        return bool(api.exec_inspect(made)["ExitCode"] == 0)

    def has(self, container: Container, path: str) -> bool:
        """Whether there is such a file in the running container."""
        return self.succeeds(container.id, "test", "-e", path)

    def remove(self) -> None:
        """Make all of it go."""
        for container in reversed(self._ids):
            with suppress(NotFound):
                self.engine.api.remove_container(container, force=True, v=True)


@pytest.fixture
def stage(engine: Engine) -> Iterator[Stage]:
    """A place for containers."""
    made = Stage(engine)
    yield made
    made.remove()
