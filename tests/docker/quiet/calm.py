"""Short ways to calm containers of a test and to look at them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from backupd.engine.client import Engine
from backupd.engine.discovery import survey
from backupd.engine.image import HelperImage
from backupd.engine.journal import Journal
from backupd.engine.quiesce import Patient, Quiesce
from backupd.treatment import Treatment
from backupd.volume import Container
from tests.docker.conftest import SHELL_IMAGE

PATIENCE_SECONDS = 60
PAUSE = Treatment("pause")


def known(engine: Engine, container: str) -> Container:
    """What discovery says of a container."""
    return next(found for found in survey(engine).containers if found.id == container)


def state(engine: Engine, container: str) -> str:
    """The engine's word for it."""
    return str(engine.api.inspect_container(container)["State"]["Status"])


def quiet(
    engine: Engine,
    journal: Journal,
    containers: Sequence[Container],
    treatment: Treatment = PAUSE,
    *,
    limit_seconds: float = 600,
    cancel: threading.Event | None = None,
) -> Quiesce:
    """A quiet of just these containers, all treated alike."""
    return quiet_of(
        engine,
        journal,
        lambda: [Patient(container, treatment) for container in containers],
        limit_seconds=limit_seconds,
        cancel=cancel,
    )


def quiet_of(
    engine: Engine,
    journal: Journal,
    look: Callable[[], Sequence[Patient]],
    *,
    limit_seconds: float = 600,
    cancel: threading.Event | None = None,
) -> Quiesce:
    """A quiet of those that `look` finds."""
    return Quiesce(
        engine,
        journal,
        look,
        image=HelperImage(SHELL_IMAGE, "gnu", "1"),
        instance="backupd-test",
        limit_seconds=limit_seconds,
        cancel=cancel,
    )


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something holds; not for ever."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
