"""From settings to a repository: all that those commands need which ask nothing of the engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import tzinfo
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from backupd.errors import Interrupted
from backupd.rate import Rate
from backupd.repository import Repository
from backupd.settings import Settings
from backupd.storage.base import Storage
from backupd.storage.location import open_storage
from backupd.storage.paced import PacedStorage
from backupd.storage.retry import Retry

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger


@contextmanager
def opened(settings: Settings, cancel: threading.Event | None = None) -> Iterator[Repository]:
    """The repository of the settings, for as long as the context; `RepositoryMissing` where there is none.

    Once `cancel` is set nobody waits for a storage that does not answer.
    """
    with (
        closing(
            open_storage(settings.storage, settings.s3.options, cancel=cancel, on_retry=_tell_retry)
        ) as storage,
        closing(
            Repository.open(
                _paced(storage, settings.limits.upload, cancel),
                settings.keys,
                caches=settings.state_dir / "cache",
                note=lambda text: _log().debug(text),
            )
        ) as repository,
    ):
        yield repository


def zone(settings: Settings) -> tzinfo:
    """The time zone of schedules."""
    from tzlocal import get_localzone

    return ZoneInfo(settings.timezone) if settings.timezone else get_localzone()


def _paced(storage: Storage, upload: int | None, cancel: threading.Event | None) -> Storage:
    def check() -> None:
        if cancel is not None and cancel.is_set():
            raise Interrupted("an upload was cancelled")

    return PacedStorage(storage, rate("upload", upload), check) if upload else storage


@cache
def rate(purpose: str, bytes_per_second: int) -> Rate:
    """The one rate that all runs of this process share."""
    return Rate(bytes_per_second)


def _tell_retry(retry: Retry) -> None:
    _log().info(
        "storage is tried again",
        attempt=retry.attempt,
        seconds=round(retry.wait_seconds, 3),
        error=retry.error.message,
    )


def _log() -> BoundLogger:
    import structlog  # brings rich along

    logger: BoundLogger = structlog.get_logger(__name__)
    return logger
