"""What is worth telling: failures once and then daily while they last, recoveries, never a plain success."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from backupd.health import Health
from backupd.notify import wording
from backupd.notify.notice import Notice
from backupd.record import Record
from backupd.runs import Run


@dataclass(frozen=True)
class Told:
    """What was told of one volume (or of the whole): which kinds, since when it lasts, when last."""

    since: datetime
    at: datetime
    kinds: frozenset[str]


@dataclass(frozen=True)
class Telling:
    """What people know. Each question answers with notices, and with what people know once they have them.

    `repeat` is how long after a notice the same is told again, if it still holds. All times are aware.
    """

    host: str
    repeat: timedelta
    told: Mapping[str, Told] = field(default_factory=dict)

    def ended(self, run: Run, record: Record, now: datetime) -> tuple[Telling, list[Notice]]:
        """A run has ended; `record` is what is remembered of its volume since."""
        notices: list[Notice] = []
        if run.outcome == "failed":
            return self._tell(wording.failed(self.host, run, record, now), now)
        if run.outcome == "degraded":
            return self._tell(wording.degraded(self.host, run, now), now)
        if run.manifest is None:
            return self, notices
        earlier = run.manifest.collapsed_from
        lasting = _NOT_OF_RUNS | {"collapsed"} if earlier else _NOT_OF_RUNS
        telling, notices = self._recover(run.volume, self._kinds(run.volume) - lasting, now)
        if earlier:
            telling, more = telling._tell(wording.collapsed(self.host, run, earlier, now), now)
            notices += more
        return telling, notices

    def looked(
        self, health: Health, watched: Sequence[str], now: datetime, *, busy: Collection[str] = ()
    ) -> tuple[Telling, list[Notice]]:
        """Health was assessed; `watched` are the volumes that somebody wants to be backed up.

        What is overdue and `busy` is not told: it may be well in a moment.
        """
        known = {name: told for name, told in self.told.items() if not name or name in watched}
        telling, notices = replace(self, told=known), list[Notice]()
        for problem in health.problems:
            if problem.kind == "overdue" and problem.volume in busy:
                continue
            telling, more = telling._tell(wording.problem(self.host, problem, now), now)
            notices += more
        lasting = {(problem.volume or "", problem.kind) for problem in health.problems}
        for name, told in known.items():
            over = frozenset(kind for kind in told.kinds & _OF_HEALTH if (name, kind) not in lasting)
            telling, more = telling._recover(name, over, now)
            notices += more
        return telling, notices

    def verified(self, damage: Sequence[str], now: datetime) -> tuple[Telling, list[Notice]]:
        """The repository was verified, and this damage found."""
        if damage:
            return self._tell(wording.damaged(self.host, damage, now), now)
        return self._recover("", frozenset({"damaged"}) & self._kinds(""), now)

    def _kinds(self, key: str) -> frozenset[str]:
        return self.told[key].kinds if key in self.told else frozenset()

    def _tell(self, notice: Notice, now: datetime) -> tuple[Telling, list[Notice]]:
        key = notice.volume or ""
        before = self.told.get(key)
        if before and notice.kind in before.kinds and timedelta(0) <= now - before.at < self.repeat:
            return self, []
        since = before.since if before else notice.since or now
        kinds = (before.kinds if before else frozenset()) | {notice.kind}
        told = {**self.told, key: Told(since, now, kinds)}
        return replace(self, told=told), [notice]

    def _recover(self, key: str, over: frozenset[str], now: datetime) -> tuple[Telling, list[Notice]]:
        """These kinds are over: told as soon as nothing is left of what was told."""
        before = self.told.get(key)
        if before is None or not over:
            return self, []
        told = {**self.told, key: replace(before, kinds=before.kinds - over)}
        if told[key].kinds:
            return replace(self, told=told), []
        del told[key]
        return replace(self, told=told), [wording.recovered(self.host, key or None, before.since, now)]


_NOT_OF_RUNS = frozenset({"misconfigured"})
"""What a backup that succeeds does not end."""

_OF_HEALTH = frozenset({"overdue", "misconfigured", "clock", "ledger", "stuck"})


def encode(told: Mapping[str, Told]) -> dict[str, str]:
    """What was told, as text by name."""
    return {
        name: json.dumps([each.since.isoformat(), each.at.isoformat(), sorted(each.kinds)])
        for name, each in told.items()
    }


def decode(texts: Mapping[str, str]) -> dict[str, Told]:
    """What `encode` made text of; what makes no sense counts as not told."""
    told = {}
    for name, text in texts.items():
        try:
            since, at, kinds = json.loads(text)
            told[name] = Told(datetime.fromisoformat(since), datetime.fromisoformat(at), frozenset(kinds))
        except (ValueError, TypeError):
            continue
    return told
