"""Runs what has its turn: saves its volumes, and tells those who listen how each run went."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import structlog

from backupd.errors import BackupdError, Interrupted, Locked
from backupd.jobs import Job
from backupd.operations.context import Context
from backupd.operations.save import save
from backupd.progress import Tally
from backupd.protection import Policy
from backupd.runs import Listener, Outcome, Run
from backupd.settings import Settings
from backupd.status import Working
from backupd.wiring import forget_in, renewed

log = structlog.get_logger(__name__)


class Runner:
    """Saves volumes with the settings of the moment; any thread may call.

    A run ends early, as `interrupted`, when `cancel` is set.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        context: Context,
        listeners: Sequence[Listener],
        cancel: threading.Event,
    ) -> None:
        self._settings, self._context, self._cancel = settings, context, cancel
        self._listeners = tuple(listeners)
        self._runs: dict[str, Run] = {}
        self._tallies: dict[str, Tally] = {}

    def working(self) -> tuple[Working, ...]:
        """The runs that go on, in the order in which they began."""
        now = datetime.now(UTC)
        return tuple(_working(run, self._tallies.get(run.volume), now) for run in tuple(self._runs.values()))

    def run(self, job: Job) -> tuple[Run, ...]:
        """Save every member of the job; how each went. Never raises."""
        return tuple(self._save(job, volume, policy) for volume, policy in job.members.items())

    def _save(self, job: Job, volume: str, policy: Policy) -> Run:
        settings = self._settings()
        run = Run(volume, job.name, datetime.now(UTC))
        self._runs[volume] = run
        begun = time.monotonic()
        try:
            for listener in self._listeners:
                listener.started(run)
            saved = save(
                partial(renewed, settings, self._context, log.warning, self._cancel),
                volume,
                policy,
                state_dir=settings.state_dir,
                progress=partial(self._tallies.__setitem__, volume),
                cancel=self._cancel,
                forget_in=forget_in(settings),
            )
            run = replace(run, outcome=saved.manifest.outcome, manifest=saved.manifest)
        except BackupdError as error:  # the run's closing line has told it
            run = replace(run, outcome=_outcome(error), error=error.message, hint=error.hint)
        except Exception as error:
            log.exception("backup failed", volume=volume, outcome="failed")
            run = replace(run, outcome="failed", error=f"internal error: {error!r}")
        run = replace(run, seconds=round(time.monotonic() - begun, 3))
        self._runs.pop(volume)
        self._tallies.pop(volume, None)
        for listener in self._listeners:
            listener.ended(run)
        return run


def _outcome(error: BackupdError) -> Outcome:
    if isinstance(error, Interrupted):
        return "interrupted"
    return "skipped" if isinstance(error, Locked) else "failed"


def _working(run: Run, tally: Tally | None, now: datetime) -> Working:
    return Working(
        volume=run.volume,
        group=run.group,
        phase=tally.phase if tally else "starting",
        started=run.started,
        seconds=round((now - run.started).total_seconds(), 1),
        bytes=tally.bytes_done if tally else 0,
        bytes_total=tally.bytes_total if tally else None,
    )
