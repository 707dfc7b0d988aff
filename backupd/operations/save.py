"""Backups as a run: alone on each volume, and with a closing line for each in the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from functools import partial
from pathlib import Path

import structlog

from backupd.errors import BackupdError, Interrupted, Locked
from backupd.operations.collapse import hint
from backupd.operations.context import Context
from backupd.operations.forget import execute, plan
from backupd.operations.lock import volume_lock
from backupd.operations.taking import Wish
from backupd.operations.window import Result, read_together
from backupd.progress import Progress
from backupd.protection import Policy, treatment
from backupd.snapshot import Manifest
from backupd.treatment import Treatment
from backupd.volume import Container, Volume

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Target:
    """A volume that is to be saved; `retain`: its policy's retention is applied after a success."""

    volume: str
    policy: Policy
    retain: bool = True


@dataclass(frozen=True)
class Saved:
    """A snapshot, the ids of those that were forgotten for it, and why none could be, if so.

    `degraded` are post hooks that failed: the snapshot is good, the application may not be.
    """

    manifest: Manifest
    forgotten: tuple[str, ...] = ()
    warning: str | None = None
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of one volume: a snapshot, or the error; and how long that took."""

    volume: str
    started: datetime
    seconds: float
    saved: Saved | None = None
    error: BackupdError | None = None


def save(
    renewed: Callable[[], AbstractContextManager[Context]],
    targets: Sequence[Target],
    *,
    state_dir: Path,
    progress: Callable[[str], Progress],
    cancel: threading.Event,
    forget_in: tzinfo | None,
) -> tuple[Outcome, ...]:
    """Save volumes in one quiet; what became of each, in their order. Never raises for a volume.

    A volume that somebody saves already, in this process or another, is `Locked` and the others go on.
    After a success the volume's retention is applied, with the days and weeks of the time zone `forget_in`;
    not where that is None. What goes wrong with it is logged and leaves the backup a success.

    Each volume has a context of its own, made anew: a storage that has failed must not fail the next, and a
    helper image that has gone must be missed before anything is quiesced.
    """
    runs = [_Run(target) for target in targets]
    with ExitStack() as stack:
        for run in runs:
            run.attempt(partial(run.enter, stack, state_dir, renewed, progress))
        together = [run for run in runs if run.wish]
        if together:
            wishes = [run.wish for run in together if run.wish]
            results = read_together(wishes[0].context, wishes, cancel=cancel)
            for run, result in zip(together, results, strict=True):
                run.attempt(partial(run.keep, result, forget_in, cancel))
    return tuple(run.outcome() for run in runs)


class _Run:
    """One volume, from its lock to the closing line of its log."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._started, self._begun = datetime.now(UTC), time.monotonic()
        self.wish: Wish | None = None
        self._saved: Saved | None = None
        self._error: BackupdError | None = None

    def attempt(self, step: Callable[[], None]) -> None:
        """Take a step; a failure is this volume's alone."""
        try:
            step()
        except BackupdError as error:
            self._error = error

    def enter(
        self,
        stack: ExitStack,
        state_dir: Path,
        renewed: Callable[[], AbstractContextManager[Context]],
        progress: Callable[[str], Progress],
    ) -> None:
        """Have the volume to ourselves, and all it takes to save it."""
        volume, policy = self._target.volume, self._target.policy
        stack.enter_context(volume_lock(state_dir, volume))
        context = stack.enter_context(renewed())
        treat = partial(_treatment, policy)
        self.wish = Wish(context, volume, treat, policy.exclude, progress(volume))

    def keep(self, result: Result, forget_in: tzinfo | None, cancel: threading.Event) -> None:
        """Take note of the snapshot, and forget what it makes superfluous."""
        manifest = result.taken.manifest
        self._saved = Saved(manifest)
        if manifest.collapsed_from:
            _tell_collapse(manifest)
        if self.wish and self._target.retain and forget_in is not None and not cancel.is_set():
            self._saved = _retain(self.wish.context, manifest, self._target.policy, forget_in)
        self._saved = replace(self._saved, degraded=result.taken.degraded)

    def outcome(self) -> Outcome:
        """What became of it, and the closing line."""
        seconds = time.monotonic() - self._begun
        if self._saved:
            _tell_success(self._saved.manifest, seconds)
        elif self._error:
            _tell_failure(self._error, self._target.volume, seconds)
        return Outcome(self._target.volume, self._started, seconds, self._saved, self._error)


def _treatment(policy: Policy, volume: Volume, container: Container) -> Treatment:
    return treatment(volume, policy, container)


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


def _tell_collapse(manifest: Manifest) -> None:
    log.warning(
        "volume collapsed",
        volume=manifest.volume.name,
        snapshot=manifest.snapshot,
        earlier=manifest.collapsed_from,
        bytes=manifest.bytes.content,
        hint=hint(manifest.volume.name),
    )


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
