"""Who sees all that the daemon does: remembers it, judges it, tells of it, and answers questions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, tzinfo
from typing import Any

import structlog
from starlette.routing import BaseRoute

from backupd import metrics
from backupd.errors import BackupdError, ConfigError
from backupd.health import GRACE_MAX, Health, Watched, assess, starting, stuck, unwritten
from backupd.ledger import Ledger
from backupd.notify.channels import Channel, Outbox, channels
from backupd.notify.reporter import Reporter
from backupd.notify.wording import unprotected
from backupd.runs import Run
from backupd.settings import Settings
from backupd.unixhttp import SOCKET
from backupd.web.app import private, public
from backupd.web.server import Entrance, serving, tcp_socket, unix_socket

log = structlog.get_logger(__name__)

LOOK_SECONDS = 10.0
JOIN_SECONDS = 5.0
TOKEN_MIN = 16


class Observer:
    """Hears of every run and of every look at the engine; any thread may call it, and nothing raises.

    Judges now and then by itself: silence makes no event.
    """

    def __init__(
        self, ledger: Ledger, reporter: Reporter, outbox: Outbox, *, host: str, zone: tzinfo
    ) -> None:
        self.ledger = ledger
        self._reporter = reporter
        self._outbox = outbox
        self._host = host
        self._zone = zone
        self._begun = datetime.now(UTC)
        self._watched: tuple[Watched, ...] | None = None
        self._running: dict[str, datetime] = {}
        self._stuck: BackupdError | None = None
        self._gaps: Mapping[str, int] = {}
        self._contribution: Callable[[], Mapping[str, Any]] = dict

    def started(self, run: Run) -> None:
        """A run begins."""
        self._running[run.volume] = run.started
        self.ledger.started(run)
        self._reporter.started(run)

    def ended(self, run: Run) -> None:
        """A run is over."""
        self._running.pop(run.volume, None)
        self.ledger.ended(run)
        self._reporter.ended(run, self._now())

    def saw(self, watched: Iterable[Watched]) -> None:
        """The engine was looked at: exactly these volumes are to be backed up."""
        self._watched = tuple(watched)
        self.ledger.seen([each.volume for each in self._watched if each.schedule], self._now())
        self._reporter.watch(self._watched)

    def verified(self, volumes: Iterable[str], damage: Sequence[str] = ()) -> None:
        """The snapshots of these volumes were proved whole just now; `damage` was found in the repository."""
        self.ledger.verified(volumes, self._now())
        self._reporter.verified(damage, self._now())

    def stuck(self, error: BackupdError | None) -> None:
        """Containers could not be brought back, as of now; None: all are."""
        self._stuck = error

    def retime(self, zone: tzinfo) -> None:
        """Schedules follow another time zone from now on."""
        self._zone = zone

    def gaps(self, counts: Mapping[str, int], new: Sequence[tuple[str, str]]) -> None:
        """So many volumes of each kind are not protected; of the new ones the names and reasons are told."""
        self._gaps = dict(counts)
        if new:
            self._reporter.tell(unprotected(self._host, new, self._now()))

    def contribute(self, status: Callable[[], Mapping[str, Any]]) -> None:
        """Answer with this, too, when the status is asked for."""
        self._contribution = status

    def judge(self) -> None:
        """Tell what has become overdue or wrong, and what no longer is."""
        if self._watched is not None:
            self._reporter.looked(self.health(), self._watched, self._now(), busy=self._busy())

    def health(self) -> Health:
        """The judgement as of now."""
        if self._watched is None:
            return starting()
        records = self.ledger.records()
        others = [stuck(self._stuck)] if self._stuck else []
        if self.ledger.trouble:
            others.append(unwritten(self.ledger.trouble))
        return assess(self._watched, records, self._now(), others)

    def metrics(self) -> str:
        """The page for Prometheus."""
        status = self._contribution()
        coming = {
            volume: datetime.fromisoformat(text) for volume, text in status.get("next", {}).items() if text
        }
        return metrics.exposition(
            metrics.Reading(
                started=self._begun,
                health=self.health(),
                volumes=[each.volume for each in self._watched or ()],
                records=self.ledger.records(),
                engine_up=not status.get("daemon", {}).get("engine_away", False),
                running=len(self._running),
                waiting=len(status.get("waiting", ())),
                next_runs=coming,
                skipped=status.get("skipped", {}),
                unprotected=self._gaps,
                undelivered=self._outbox.undelivered(),
            )
        )

    def status(self) -> Mapping[str, Any]:
        """What runs, waits and has been, as JSON values."""
        records = self.ledger.records()
        watched = [each.volume for each in self._watched or ()]
        return {
            **self._contribution(),
            "health": self.health().as_json(),
            "records": {name: _plain(asdict(records[name])) for name in watched if name in records},
            "unprotected": self._gaps,
            "notifications": {
                "undelivered": self._outbox.undelivered(),
                "troubles": self._outbox.troubles(),
            },
        }

    def _busy(self) -> Collection[str]:
        """The volumes that are at work or wait for others, unless that has gone on for too long."""
        now = datetime.now(UTC)
        running = {name for name, since in list(self._running.items()) if now - since < GRACE_MAX}
        if not running:
            return running
        waiting = self._contribution().get("waiting", ())
        return running | {volume for turn in waiting for volume in turn["volumes"]}

    def _now(self) -> datetime:
        return datetime.now(self._zone)


@contextmanager
def observing(settings: Settings, zone: tzinfo) -> Iterator[Observer]:
    """An observer as the settings want it; `ConfigError` where a channel cannot work."""
    ledger = Ledger(settings.state_dir)
    with Outbox(settings_channels(settings)) as outbox:
        given = settings.notify
        heartbeat = given.ping.get_secret_value() if given.ping else None
        reporter = Reporter(ledger, outbox, host=settings.host, repeat=given.repeat, heartbeat=heartbeat)
        observer = Observer(ledger, reporter, outbox, host=settings.host, zone=zone)
        with _judging(observer):
            yield observer


@contextmanager
def answering(
    settings: Settings, observer: Observer, routes: Sequence[BaseRoute] = ()
) -> Iterator[tuple[str, int] | None]:
    """Answer on the socket in the state directory, there to `routes` too, and where settings say on TCP.

    To be entered under the daemon's lock. Gives the address on TCP, None where there is none.
    """
    token, address = _token(settings), settings.web.address()
    with ExitStack() as stack:
        bound = stack.enter_context(unix_socket(settings.state_dir / SOCKET))
        entrances = [Entrance(bound, private(observer, routes))]
        if address is not None:
            hosts = {address[0], *settings.web.hosts}
            bound = stack.enter_context(tcp_socket(*address))
            address = bound.getsockname()[:2]
            entrances.append(Entrance(bound, public(observer, hosts=hosts, token=token)))
        stack.enter_context(serving(entrances))
        yield address


def settings_channels(settings: Settings) -> Mapping[str, Channel]:
    """The channels that the settings name; `ConfigError` for one that cannot work."""
    given = settings.notify
    return channels(
        given.webhook.get_secret_value() if given.webhook else None,
        given.webhook_secret.get_secret_value() if given.webhook_secret else None,
        [url.get_secret_value() for url in given.apprise],
    )


@contextmanager
def _judging(observer: Observer) -> Iterator[None]:
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(LOOK_SECONDS):
            try:
                observer.judge()
            except Exception:
                # Silence about silence would be the worst of all: go on, and say so.
                log.exception("health could not be judged")

    thread = threading.Thread(target=work, name="backupd-judge", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(JOIN_SECONDS)


def _token(settings: Settings) -> str | None:
    path = settings.web.token_file
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"cannot read {path}: {reason}", hint="web.token_file names it") from None
    if len(token) < TOKEN_MIN:
        raise ConfigError(
            f"the token in {path} has less than {TOKEN_MIN} characters",
            hint="make one with `openssl rand -hex 32`",
        )
    return token


def _plain(value: Any) -> Any:
    """Times as text, all the way down."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return value.isoformat() if isinstance(value, datetime) else value
