"""Runs what has its turn: saves its volumes, and tells those who listen how each run went."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import structlog

from backupd.jobs import Job
from backupd.operations.context import Context
from backupd.operations.ending import ended
from backupd.operations.save import Target, save
from backupd.progress import Tally
from backupd.runs import Listener, Run
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

    def run(self, job: Job) -> None:
        """Save every member of the job. Never raises."""
        settings = self._settings()
        now, begun = datetime.now(UTC), time.monotonic()
        runs = [Run(volume, job.name, now) for volume in job.members]
        for run in runs:
            self._runs[run.volume] = run
            for listener in self._listeners:
                listener.started(run)
        try:
            done = self._saved(settings, job, runs)
        except Exception as error:
            log.exception("backup failed", volumes=list(job.members), outcome="failed")
            seconds, text = time.monotonic() - begun, f"internal error: {error!r}"
            done = [replace(run, seconds=round(seconds, 3), outcome="failed", error=text) for run in runs]
        for run in done:
            self._runs.pop(run.volume)
            self._tallies.pop(run.volume, None)
            for listener in self._listeners:
                listener.ended(run)

    def _saved(self, settings: Settings, job: Job, runs: Sequence[Run]) -> list[Run]:
        outcomes = save(
            partial(renewed, settings, self._context, log.warning, self._cancel),
            [Target(volume, policy) for volume, policy in job.members.items()],
            state_dir=settings.state_dir,
            progress=lambda volume: partial(self._tallies.__setitem__, volume),
            cancel=self._cancel,
            forget_in=forget_in(settings),
        )
        return [ended(run, outcome) for run, outcome in zip(runs, outcomes, strict=True)]


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
