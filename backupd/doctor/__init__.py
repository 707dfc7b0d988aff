"""What is wrong with this set-up, and how to mend it: findings, each with what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from backupd.doctor import engine, host, storage, volumes
from backupd.doctor.finding import Finding, bad, examined
from backupd.engine.client import Engine
from backupd.engine.discovery import survey
from backupd.errors import EngineError
from backupd.opening import opened
from backupd.settings import Settings
from backupd.wiring import connected, found_image, protections

__all__ = ["Finding", "examine"]

Say = Callable[[str], None]


def examine(settings: Settings, say: Say) -> Iterator[Finding]:
    """Look at this machine, the engine, the volumes and the repository, in the order of need.

    Each finding comes as soon as it is made. `say` is told what takes long. Nothing is changed but for a
    helper image that is built where there is none, and an object under `probe/` that comes and goes.
    """
    yield from examined("state", lambda: host.examine(settings))
    directory = None
    try:
        with connected(settings) as connection:
            directory = connection.directory
            yield from _with_engine(settings, connection, say)
    except EngineError as error:
        yield bad("engine", error.message, error.hint)
    yield from examined("repository", lambda: _repository(settings, directory))


def _with_engine(settings: Settings, connection: Engine, say: Say) -> Iterator[Finding]:
    yield from examined("engine", lambda: engine.examine(connection))
    yield from examined("helper", lambda: iter([engine.helper(found_image(settings, connection, say))]))
    yield from examined("volumes", lambda: volumes.examine(protections(settings, survey(connection))))


def _repository(settings: Settings, engine_directory: Path | None) -> Iterator[Finding]:
    with opened(settings) as repository:
        yield from storage.examine(settings, repository, engine_directory)
