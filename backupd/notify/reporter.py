"""From what happens to what is told: notices for people, pings for machines that watch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

from backupd.health import Health, Problem, Watched
from backupd.ledger import Ledger
from backupd.notify import telling, wording
from backupd.notify.channels import Outbox
from backupd.notify.notice import Notice
from backupd.notify.ping import Event, Ping
from backupd.notify.telling import Telling
from backupd.runs import Run

HEARTBEAT = timedelta(minutes=5)


class Reporter:
    """Decides what is told, keeps in the ledger what was, and hands messages to the outbox. Thread-safe.

    `heartbeat` is the address that is pinged every five minutes while all is well, and with `/fail` while it
    is not: where nothing arrives, the daemon itself is gone.
    """

    def __init__(
        self, ledger: Ledger, outbox: Outbox, *, host: str, repeat: timedelta, heartbeat: str | None
    ) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._heartbeat = heartbeat
        self._beat: tuple[datetime, bool] | None = None
        self._lock = threading.Lock()
        self._telling = Telling(host, repeat, telling.decode(ledger.told()))
        self._pings: Mapping[str, str] = {}

    def watch(self, watched: Sequence[Watched]) -> None:
        """These volumes are to be backed up; their pings go where these say."""
        self._pings = {each.volume: each.ping for each in watched if each.ping}

    def started(self, run: Run) -> None:
        """A run begins."""
        self._ping(run.volume, "start", f"backup of {run.volume} begins")

    def ended(self, run: Run, now: datetime) -> None:
        """A run is over, and in the ledger."""
        record = self._ledger.record(run.volume)
        self._tell(lambda before: before.ended(run, record, now))
        if run.outcome == "failed":
            self._ping(run.volume, "fail", wording.failed(self._telling.host, run, record, now).body)
        elif run.outcome == "degraded":
            self._ping(run.volume, "fail", wording.degraded(self._telling.host, run, now).body)
        elif run.manifest is not None:
            self._ping(run.volume, "success", wording.succeeded(run))

    def looked(
        self, health: Health, watched: Sequence[Watched], now: datetime, *, busy: Collection[str] = ()
    ) -> None:
        """Health was assessed; what is overdue and `busy` may be well in a moment, and is not told yet."""
        names = [each.volume for each in watched]
        self._tell(lambda before: before.looked(health, names, now, busy=busy))
        before = self._beat
        if self._heartbeat is None:
            return
        if before is None or before[1] != health.ok or not timedelta(0) <= now - before[0] < HEARTBEAT:
            self._beat = (now, health.ok)
            message = "\n".join(map(_line, health.problems)) or f"{health.protected} volumes protected"
            self._outbox.ping(Ping(self._heartbeat, "success" if health.ok else "fail", message))

    def verified(self, damage: Sequence[str], now: datetime) -> None:
        """The repository was verified, and this damage found."""
        self._tell(lambda before: before.verified(damage, now))

    def tell(self, notice: Notice) -> None:
        """Tell this, whatever was told before."""
        self._outbox.tell(notice)

    def _tell(self, question: Callable[[Telling], tuple[Telling, list[Notice]]]) -> None:
        with self._lock:
            before = self._telling
            self._telling, notices = question(before)
            for notice in notices:
                self._outbox.tell(notice)
            if self._telling.told != before.told:
                self._ledger.keep_told(telling.encode(self._telling.told))

    def _ping(self, volume: str, event: Event, message: str) -> None:
        url = self._pings.get(volume)
        if url is not None:
            self._outbox.ping(Ping(url, event, message))


def _line(problem: Problem) -> str:
    return f"{problem.volume}: {problem.text}" if problem.volume else problem.text
