"""The long-running service: what is protected is found, scheduled, saved, until somebody says stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import structlog

from backupd import __version__
from backupd.engine.discovery import Survey
from backupd.errors import BackupdError
from backupd.guard.service import Service
from backupd.jobs import jobs
from backupd.observer import Observer, answering, observing
from backupd.opening import zone
from backupd.operations.context import Context
from backupd.operations.lock import daemon_lock
from backupd.operations.successes import newest
from backupd.protection import Protection
from backupd.pulse import Pulse
from backupd.reload import Reloaded, reloaded
from backupd.runner import Runner
from backupd.scheduler import Scheduler
from backupd.settings import Settings
from backupd.status import Daemon, Last, Status, Waiting
from backupd.systemd import Supervisor
from backupd.turns import Turn, Turns
from backupd.upkeep import Upkeep
from backupd.watch import Watch
from backupd.web.preflight import preflight_route
from backupd.wiring import assembled, connected, limit, protections, watched

log = structlog.get_logger(__name__)

_ENDS = frozenset({signal.SIGTERM, signal.SIGINT})
_SIGNALS = _ENDS | {signal.SIGHUP}


def run(settings: Settings, read: Callable[[], Settings]) -> int:
    """Serve until SIGTERM or SIGINT; then undo what is under way and return 0. SIGHUP has `read` called anew.

    Refuses to start, with the error that says why: `Locked` where another daemon has the state directory,
    `RepositoryMissing`, `EngineUnreachable`, `HelperImageUnavailable`.
    """
    # As process 1 of a container, a process that does not handle SIGTERM does not receive it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # would end a daemon that only starts
    stop = threading.Event()
    try:
        with (
            daemon_lock(settings.state_dir),
            connected(settings) as engine,
            assembled(settings, engine, log.warning, stop) as context,
            _signals_blocked(),
            observing(settings, zone(settings)) as observer,
        ):
            service = _Service(settings, read, context, observer, stop)
            with answering(settings, observer, [preflight_route(service.guard.answer)]):
                service.serve()
    except KeyboardInterrupt:
        log.info("daemon stopped while it started")
    return 0


class _Service:
    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        context: Context,
        observer: Observer,
        stop: threading.Event,
    ) -> None:
        self._settings, self._read, self._stop = settings, read, stop
        self._context, self._observer = context, observer
        self._since = datetime.now(UTC)
        self._told: set[tuple[str, str]] = set()
        self._supervisor = Supervisor(os.environ)
        self._runner = Runner(lambda: self._settings, context, (observer,), stop)
        self._turns = Turns(self._work, self._claims, limit=settings.concurrency)
        self._scheduler = Scheduler(self._turns.add, timezone=zone(settings), jitter=settings.jitter)
        self._upkeep = Upkeep(lambda: self._settings, context, observer, stop)
        self._watch = Watch(context.engine, stop, self._saw)
        self.guard = Service(lambda: self._settings, context, observer, stop)
        self._pulse = Pulse(self._supervisor, lives=self._lives, clock_moved=self._scheduler.clock_moved)
        observer.contribute(lambda: self.status().as_json())

    def serve(self) -> None:
        """Work until a signal comes; it must be blocked in every thread."""
        self._remember()
        self._scheduler.start()
        self._upkeep.schedule(self._scheduler)
        self._watch.start()
        log.info(
            "daemon started",
            version=__version__,
            pid=os.getpid(),
            engine=self._context.engine.name,
            storage=self._context.repository.storage.location,
            helper_image=self._context.image.reference,
            tar=self._context.image.tar,
        )
        self._supervisor.ready()
        log.info("daemon stopping", signal=self._work_until_told())
        self._supervisor.stopping()
        self._stop.set()
        self._turns.stop()
        self._scheduler.stop()
        self._watch.join()
        log.info("daemon stopped")

    def status(self) -> Status:
        """What goes on."""
        return Status(
            daemon=Daemon(
                pid=os.getpid(),
                version=__version__,
                since=self._since,
                instance=self._context.instance,
                host=self._context.host,
                engine=self._context.engine.name,
                engine_away=self._watch.away,
                storage=self._context.repository.storage.location,
            ),
            running=self._runner.working(),
            waiting=tuple(self._waiting(turn) for turn in self._turns.waiting),
            next=self._scheduler.next_runs(),
            last=self._last(),
            skipped=self._scheduler.skips(),
            upkeep=self._scheduler.next_upkeep(),
        )

    def _last(self) -> dict[str, Last]:
        """How the last run of each volume ended that is backed up here."""
        records = self._observer.ledger.records()
        volumes = {volume for job in self._scheduler.jobs.values() for volume in job.members}
        return {name: last for name in volumes & records.keys() if (last := Last.of(records[name]))}

    def _remember(self) -> None:
        """Believe what the repository says of successes, which others may have made or forgotten."""
        asked = datetime.now(UTC)
        try:
            self._observer.ledger.reconcile(newest(self._context.repository, self._context.host), asked)
        except BackupdError as error:
            log.warning("snapshots cannot be listed", error=error.message, hint=error.hint)

    def _work_until_told(self) -> str:
        """Beat, and reload when asked to; the name of the signal that ends it."""
        while True:
            self._supervisor.status(self._summary())
            received = signal.sigtimedwait(_SIGNALS, self._pulse.seconds)
            if received is None:
                self._pulse.beat()
            elif received.si_signo in _ENDS:
                return signal.Signals(received.si_signo).name
            else:
                self._reload()

    def _summary(self) -> str:
        volumes = sum(len(job.members) for job in self._scheduler.jobs.values())
        at_work, waiting = len(self._turns.working), len(self._turns.waiting)
        away = ", the engine is away" if self._watch.away else ""
        return f"{volumes} volumes protected, {at_work} at work, {waiting} waiting{away}"

    def _lives(self) -> bool:
        return self._scheduler.lives() and self._watch.lives()

    def _reload(self) -> None:
        self._supervisor.reloading()
        try:
            change = reloaded(self._settings, self._read())
        except BackupdError as error:
            log.error("new settings refused, the old ones hold", error=error.message, hint=error.hint)
        else:
            self._apply(change)
        self._supervisor.ready()

    def _apply(self, change: Reloaded) -> None:
        before, self._settings = self._settings, change.settings
        limit(self._settings, self._context.engine)
        self._turns.resize(self._settings.concurrency)
        if (zone(before), before.jitter) != (zone(self._settings), self._settings.jitter):
            self._scheduler.retime(zone(self._settings), self._settings.jitter)
            self._observer.retime(zone(self._settings))
        self._upkeep.schedule(self._scheduler)
        self._watch.look_soon()
        log.info("settings reloaded", changed=change.changed)
        if change.restart:
            log.warning("settings need a restart", settings=change.restart, hint="restart the daemon")

    def _saw(self, seen: Survey, back: bool) -> None:
        """Make the schedule match what there is."""
        if back or self._context.journal.changes:
            self._upkeep.put_right()
        if self._stop.is_set():
            return
        found = protections(self._settings, seen)
        self._tell(found)
        self._scheduler.sync(jobs(found, seen), self._observer.ledger.last_success)
        if back:
            self._scheduler.catch_up(self._observer.ledger.last_success)
        self._observer.saw(watched(self._settings, found))
        self.guard.saw(seen, found)

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

    def _work(self, key: str) -> None:
        # Looked up now: labels may have changed since the turn was given, or the volume be gone.
        job = self._scheduler.jobs.get(key)
        if job and not self._stop.is_set():
            self._runner.run(job)

    def _claims(self, key: str) -> frozenset[str]:
        job = self._scheduler.jobs.get(key)
        return job.claims if job else frozenset()

    def _waiting(self, turn: Turn) -> Waiting:
        job = self._scheduler.jobs.get(turn.key)
        return Waiting(job.name if job else turn.key, tuple(job.members) if job else (), turn.since)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Keep signals for `sigtimedwait`; threads started inside inherit that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
