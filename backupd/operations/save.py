"""One backup as a run: alone on its volume, and with one closing line in the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import structlog

from backupd.errors import BackupdError, Interrupted, Locked
from backupd.operations.backup import backup
from backupd.operations.collapse import hint
from backupd.operations.context import Context
from backupd.operations.forget import execute, plan
from backupd.operations.lock import volume_lock
from backupd.progress import Progress
from backupd.protection import Policy
from backupd.snapshot import Manifest

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Saved:
    """A snapshot, the ids of those that were forgotten for it, and why none could be, if so."""

    manifest: Manifest
    forgotten: tuple[str, ...] = ()
    warning: str | None = None


def save(
    renewed: Callable[[], AbstractContextManager[Context]],
    volume: str,
    policy: Policy,
    *,
    state_dir: Path,
    progress: Progress,
    cancel: threading.Event,
    forget_in: tzinfo | None,
) -> Saved:
    """Save a volume unless somebody does already, in this process or another: `Locked`.

    After a success the volume's retention is applied, with the days and weeks of the time zone `forget_in`;
    not where that is None. What goes wrong with it is logged and leaves the backup a success.

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
            if manifest.collapsed_from:
                log.warning(
                    "volume collapsed",
                    volume=volume,
                    snapshot=manifest.snapshot,
                    earlier=manifest.collapsed_from,
                    bytes=manifest.bytes.content,
                    hint=hint(volume),
                )
            saved = Saved(manifest)
            if forget_in is not None and not cancel.is_set():
                saved = _retain(context, manifest, policy, forget_in)
    except BackupdError as error:
        _tell_failure(error, volume, time.monotonic() - begun)
        raise
    _tell_success(manifest, time.monotonic() - begun)
    return saved


def _retain(context: Context, manifest: Manifest, policy: Policy, zone: tzinfo) -> Saved:
    volume = manifest.volume.name
    try:
        planned = plan(
            context.repository,
            host=context.host,
            volume=volume,
            policy=policy.retention,
            now=datetime.now(UTC),
            zone=zone,
        )
        forgotten = execute(context.repository, planned)
    except BackupdError as error:
        log.warning("retention failed", volume=volume, error=error.message, hint=error.hint)
        return Saved(manifest, warning=f"retention could not be applied: {error.message}")
    if planned.frozen:
        log.warning("retention is frozen", volume=volume, kept=len(planned.decisions), hint=hint(volume))
    else:
        kept = len(planned.decisions) - len(forgotten)
        log.info(
            "retention applied",
            volume=volume,
            policy=str(policy.retention),
            kept=kept,
            forgotten=len(forgotten),
            snapshots=forgotten,
        )
    return Saved(manifest, tuple(forgotten))


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
