"""The long-running service: what is protected is found, scheduled, saved, until somebody says stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial

import structlog

from backupd import __version__
from backupd.engine.discovery import events, survey
from backupd.errors import BackupdError, EngineError
from backupd.operations.context import Context
from backupd.operations.lock import daemon_lock
from backupd.operations.prune import due, last_prune, prune
from backupd.operations.save import save
from backupd.progress import silent
from backupd.protection import Policy, Protection
from backupd.scheduler import Scheduler
from backupd.settings import Settings
from backupd.wiring import (
    assembled,
    connected,
    forget_in,
    last_success,
    opened,
    protections,
    renewed,
    zone,
)

log = structlog.get_logger(__name__)

LOOK_SECONDS = 30
"""How often the engine is asked even if it reports nothing: an engine that is gone reports nothing."""

JOIN_SECONDS = 5
"""How long a thread may take to end; one that waits for a silent engine ends with the process."""

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; then undo what is under way and return 0.

    Refuses to start, with the error that says why: `Locked` where another daemon has the state directory,
    `RepositoryMissing`, `EngineUnreachable`, `HelperImageUnavailable`.
    """
    # As process 1 of a container, a process that does not handle SIGTERM does not receive it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stop = threading.Event()
    try:
        with (
            daemon_lock(settings.state_dir),
            connected(settings) as engine,
            assembled(settings, engine, log.warning, stop) as context,
            _signals_blocked(),
        ):
            _Service(settings, context, stop).serve()
    except KeyboardInterrupt:
        log.info("daemon stopped while it started")
    return 0


class _Service:
    def __init__(self, settings: Settings, context: Context, stop: threading.Event) -> None:
        self._settings = settings
        self._context = context
        self._stop = stop
        self._looking = threading.Lock()
        self._away = False
        self._told: set[tuple[str, str]] = set()
        self._scheduler = Scheduler(self._save, concurrency=settings.concurrency, timezone=zone(settings))

    def serve(self) -> None:
        """Work until a signal comes; it must be blocked in every thread."""
        self._scheduler.start()
        self._schedule_prune()
        threads = [
            threading.Thread(target=self._watch, name="backupd-watch", daemon=True),
            threading.Thread(target=self._look_now_and_then, name="backupd-look", daemon=True),
        ]
        for thread in threads:
            thread.start()
        log.info(
            "daemon started",
            version=__version__,
            pid=os.getpid(),
            engine=self._context.engine.name,
            storage=self._context.repository.storage.location,
            helper_image=self._context.image.reference,
            tar=self._context.image.tar,
        )
        log.info("daemon stopping", signal=signal.Signals(signal.sigwait(_SIGNALS)).name)
        self._stop.set()
        self._scheduler.stop()
        for thread in threads:
            thread.join(JOIN_SECONDS)
        log.info("daemon stopped")

    def _watch(self) -> None:
        for _ in events(self._context.engine, self._stop):
            self._look()

    def _look_now_and_then(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        """List the volumes and make the schedule match."""
        with self._looking:
            try:
                seen = survey(self._context.engine)
            except EngineError as error:
                self._note_engine(error)
                return
            back = self._note_engine(None)
            if not self._stop.is_set():
                found = protections(self._settings, seen)
                self._tell(found)
                policies = {each.volume.name: each.policy for each in found if each.policy}
                self._scheduler.sync(policies, self._last_success)
                if back:
                    self._scheduler.catch_up(self._last_success)

    def _note_engine(self, error: EngineError | None) -> bool:
        """Log when the engine goes away and comes back; whether it has just come back."""
        back = self._away and error is None
        if error and not self._away:
            log.error("engine is away", error=error.message, hint=error.hint)
        elif back:
            log.info("engine is back")
        self._away = error is not None
        return back

    def _tell(self, found: Iterable[Protection]) -> None:
        """Log each error and warning once, and again if it comes back."""
        told = set()
        for protection in found:
            name = protection.volume.name
            for text in protection.errors:
                told.add((name, text))
                if (name, text) not in self._told:
                    log.error("volume cannot be protected", volume=name, error=text)
            for text in protection.warnings:
                told.add((name, text))
                if (name, text) not in self._told:
                    log.warning("label has no effect", volume=name, warning=text)
        self._told = told

    def _last_success(self, volume: str) -> datetime | None:
        try:
            return last_success(self._context.repository, self._context.host, volume)
        except BackupdError as error:
            log.warning("last snapshot cannot be read", volume=volume, error=error.message, hint=error.hint)
            return None

    def _save(self, volume: str, policy: Policy) -> None:
        if self._stop.is_set():
            return
        with suppress(BackupdError):  # the run's closing line has told it
            save(
                partial(renewed, self._settings, self._context, log.warning, self._stop),
                volume,
                policy,
                state_dir=self._settings.state_dir,
                progress=silent,
                cancel=self._stop,
                forget_in=forget_in(self._settings),
            )

    def _schedule_prune(self) -> None:
        schedule = self._settings.prune.schedule
        if schedule is None:
            return
        name = f"prune of {self._context.instance}"
        self._scheduler.every(name, schedule, self._prune, last=last_prune(self._settings.state_dir))
        self._scheduler.every(f"rest of {name}", "@hourly", self._finish_prune)

    def _prune(self) -> None:
        self._prune_with(condemn=True)

    def _finish_prune(self) -> None:
        """Delete what has been condemned long enough, by this host or another."""
        self._prune_with(condemn=False)

    def _prune_with(self, *, condemn: bool) -> None:
        if self._stop.is_set():
            return
        try:
            with opened(self._settings, self._stop) as repository:
                grace = self._settings.prune.grace
                if condemn or due(repository, grace):
                    prune(
                        repository,
                        state_dir=self._settings.state_dir,
                        grace=grace,
                        condemn=condemn,
                        cancel=self._stop,
                    )
        except BackupdError as error:
            # A prune's own closing line has told most of them; a storage that cannot be opened has none.
            log.warning("prune put off", error=error.message, hint=error.hint)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Keep signals for `sigwait`; threads started inside inherit that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
