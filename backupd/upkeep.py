"""What the daemon does for itself: puts right what was left behind, prunes, verifies."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import structlog

from backupd.engine.discovery import survey
from backupd.errors import BackupdError
from backupd.observer import Observer
from backupd.opening import opened
from backupd.operations.context import Context
from backupd.operations.prune import due, last_prune, prune
from backupd.operations.unprotected import Reported, unprotected
from backupd.operations.verify import verify
from backupd.progress import silent
from backupd.repository.verification.finding import Finding
from backupd.scheduler import Scheduler
from backupd.settings import Settings
from backupd.wiring import protections, put_right

log = structlog.get_logger(__name__)

TOLD = 1000
"""So many findings of a verification are told to people at most; all are in the log."""


class Upkeep:
    """Calls that belong to no volume; each logs its own failure, and all end early when `stop` is set.

    The observer hears what a verification has proved, and which volumes nobody protects.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        context: Context,
        observer: Observer,
        stop: threading.Event,
    ) -> None:
        self._settings, self._context = settings, context
        self._observer, self._stop = observer, stop

    def schedule(self, scheduler: Scheduler) -> None:
        """Let these calls come when the settings of the moment say; call it again when those have changed."""
        settings, instance = self._settings(), self._context.instance
        last = last_prune(settings.state_dir)
        scheduler.every(f"leftovers of {instance}", "@hourly", self.put_right)
        scheduler.every(f"look of {instance}", "@hourly", self._look, last=datetime.min.replace(tzinfo=UTC))
        pruning, rest, proof = f"prune of {instance}", f"rest of prune of {instance}", f"verify of {instance}"
        for name in (pruning, rest, proof):
            scheduler.no_longer(name)
        if settings.prune.schedule is not None:
            scheduler.every(pruning, settings.prune.schedule, self._prune, last=last)
            scheduler.every(rest, "@hourly", self._finish_prune)
        if settings.verify.schedule is not None:
            scheduler.every(proof, settings.verify.schedule, self._verify)

    def put_right(self) -> None:
        """Wake what is left asleep and remove helpers that nobody needs; what goes on is left alone."""
        if self._stop.is_set():
            return
        with _put_off("leftovers are"):
            engine, journal = self._context.engine, self._context.journal
            self._observer.stuck(put_right(self._settings(), engine, journal, log.warning))

    def _look(self) -> None:
        """See what is not protected; what is new of it is told."""
        if self._stop.is_set():
            return
        with _put_off("look for volumes that nobody protects is"):
            settings, engine = self._settings(), self._context.engine
            seen = survey(engine)
            found = unprotected(engine, seen, protections(settings, seen))
            new = Reported(settings.state_dir).new(found)
            for gap in new:
                log.warning("volume needs a decision", volume=gap.volume, reason=gap.reason, hint=gap.hint)
            self._observer.gaps(Counter(gap.kind for gap in found), [(gap.volume, gap.reason) for gap in new])

    def _prune(self) -> None:
        self._prune_with(condemn=True)

    def _finish_prune(self) -> None:
        """Delete what has been condemned long enough, by this host or another."""
        self._prune_with(condemn=False)

    def _prune_with(self, *, condemn: bool) -> None:
        if self._stop.is_set():
            return
        settings = self._settings()
        # A prune's own closing line has told most errors; a storage that cannot be opened has none.
        with _put_off("prune"), opened(settings, self._stop) as repository:
            grace = settings.prune.grace
            if condemn or due(repository, grace):
                prune(
                    repository, state_dir=settings.state_dir, grace=grace, condemn=condemn, cancel=self._stop
                )

    def _verify(self) -> None:
        if self._stop.is_set():
            return
        settings = self._settings()
        damage: list[str] = []

        def found(finding: Finding) -> None:
            _tell(finding)
            if len(damage) < TOLD:
                damage.append(_line(finding))

        with _put_off("verify"), opened(settings, self._stop) as repository:
            verified = verify(
                repository,
                share=settings.verify.read_data,
                found=found,
                progress=silent,
                cancel=self._stop,
            )
            self._observer.verified(verified.whole(self._context.host), damage)


@contextmanager
def _put_off(what: str) -> Iterator[None]:
    try:
        yield
    except BackupdError as error:
        log.warning(f"{what} put off", error=error.message, hint=error.hint)


def _line(finding: Finding) -> str:
    """The finding as a line, without the names of files."""
    whose = f"{finding.host}/{finding.volume} {finding.snapshot}: " if finding.snapshot else ""
    return f"{whose}{finding.problem}"


def _tell(finding: Finding) -> None:
    log.error(
        "damage found",
        host=finding.host,
        volume=finding.volume,
        snapshot=finding.snapshot,
        object=finding.object,
        problem=finding.problem,
        files=len(finding.paths) + finding.more_paths,
    )
