"""A real engine, volumes on it that go away afterwards, and a shell to look into them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from docker.errors import NotFound

from backupd.engine.client import Engine
from backupd.engine.image import HelperImage
from backupd.engine.journal import Journal

TEST_LABEL = "backupd.test"
SHELL_IMAGE = os.environ.get("TESTS_IMAGE", "backupd-test-tools")

MakeVolume = Callable[..., str]
RunInVolume = Callable[[str, str], str]
StartContainer = Callable[..., str]


def _hosts() -> list[str | None]:
    second = os.environ.get("TESTS_SECOND_ENGINE")
    return [None, second] if second else [None]


@pytest.fixture(params=_hosts(), ids=lambda host: "second-engine" if host else "engine")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A connection to the main engine, and where there is one, in turn to the second."""
    connection = Engine.connect(request.param)
    yield connection
    connection.close()


@pytest.fixture(params=[False, True], ids=["attach", "fifo"])
def fifo_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """In turn no meeting place and one: both transports."""
    return tmp_path if request.param else None


@pytest.fixture
def gnu() -> HelperImage:
    """An image with GNU tar that is there already."""
    return HelperImage(SHELL_IMAGE, "gnu", "1.34")


@pytest.fixture
def busybox() -> HelperImage:
    """An image with busybox tar that is there already."""
    return HelperImage("alpine:3.22", "busybox", "1.35.0")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """The journal of this process."""
    opened = Journal(tmp_path / "journal")
    yield opened
    opened.close()


@pytest.fixture
def make_volume(engine: Engine) -> Iterator[MakeVolume]:
    """Make a volume with a name of its own; it is removed after the test."""
    names: list[str] = []

    def make(prefix: str = "backupd-test", labels: dict[str, str] | None = None, **options: str) -> str:
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        names.append(name)
        engine.api.create_volume(name, driver_opts=options, labels={TEST_LABEL: "true", **(labels or {})})
        return name

    yield make
    for name in names:
        for user in engine.api.containers(all=True, filters={"volume": name}):
            engine.api.remove_container(user["Id"], force=True, v=True)
        with suppress(NotFound):
            engine.api.remove_volume(name)


@pytest.fixture
def start_container(engine: Engine) -> Iterator[StartContainer]:
    """Start a container that runs a shell script with a volume at /volume; its id. Removed after the test."""
    ids: list[str] = []

    def start(script: str, volume: str | None = None, *, name: str | None = None, start: bool = True) -> str:
        api = engine.api
        made = api.create_container(
            SHELL_IMAGE,
            ["sh", "-c", script],
            name=name or f"backupd-test-{uuid.uuid4().hex[:8]}",
            labels={TEST_LABEL: "true"},
            host_config=api.create_host_config(
                binds=[f"{volume}:/volume"] if volume else [],
                network_mode="none",
                cap_add=["SYS_ADMIN", "MKNOD"],
            ),
        )
        ids.append(made["Id"])
        if start:
            api.start(made["Id"])
        return str(made["Id"])

    yield start
    for container in ids:
        with suppress(NotFound):
            engine.api.remove_container(container, force=True, v=True)


@pytest.fixture
def run_in_volume(engine: Engine, start_container: StartContainer) -> RunInVolume:
    """Run a shell script with the volume at /volume; what it printed. A failing script fails the test."""

    def run(volume: str, script: str) -> str:
        container = start_container(f"set -e; cd /volume; {script}", volume)
        status = engine.api.wait(container)["StatusCode"]
        printed: str = engine.api.logs(container).decode(errors="surrogateescape")
        assert status == 0, printed
        engine.api.remove_container(container)
        return printed

    return run
