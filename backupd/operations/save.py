"""One backup as a run: alone on its volume, and with one closing line in the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import structlog

from backupd.errors import BackupdError, Interrupted, Locked
from backupd.operations.backup import backup
from backupd.operations.context import Context
from backupd.operations.lock import volume_lock
from backupd.progress import Progress
from backupd.snapshot import Manifest
from backupd.volume import Policy

log = structlog.get_logger(__name__)


def save(
    renewed: Callable[[], AbstractContextManager[Context]],
    volume: str,
    policy: Policy,
    *,
    state_dir: Path,
    progress: Progress,
    cancel: threading.Event,
) -> Manifest:
    """Save a volume unless somebody does already, in this process or another: `Locked`.

    Each run has a context of its own: a storage that failed one run must not fail the next, and a helper
    image that has gone must be missed before anything is quiesced.
    """
    begun = time.monotonic()
    try:
        with volume_lock(state_dir, volume), renewed() as context:
            manifest = backup(
                context,
                volume,
                mode=policy.quiesce,
                exclude=policy.exclude,
                progress=progress,
                cancel=cancel,
            )
    except BackupdError as error:
        _tell_failure(error, volume, time.monotonic() - begun)
        raise
    _tell_success(manifest, time.monotonic() - begun)
    return manifest


def _tell_success(manifest: Manifest, seconds: float) -> None:
    log.info(
        "backup finished",
        volume=manifest.volume.name,
        snapshot=manifest.snapshot,
        outcome=manifest.outcome,
        seconds=round(seconds, 3),
        quiesced_seconds=manifest.quiesced.seconds,
        bytes=manifest.bytes.tar,
        new_bytes=manifest.bytes.new,
        stored_bytes=manifest.bytes.stored,
        warnings=list(manifest.warnings),
    )


def _tell_failure(error: BackupdError, volume: str, seconds: float) -> None:
    facts = {"volume": volume, "seconds": round(seconds, 3), "error": error.message, "hint": error.hint}
    if isinstance(error, Interrupted):
        log.warning("backup interrupted", outcome="interrupted", **facts)
    elif isinstance(error, Locked):
        log.warning("backup skipped", outcome="skipped", **facts)
    else:
        log.error("backup failed", outcome="failed", **facts)
