"""Forget snapshots: those that a volume's retention does not keep, or a single one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any

from backupd.errors import RepositoryError, SnapshotNotFound
from backupd.operations.collapse import hint
from backupd.repository import Repository
from backupd.repository.history import Entry, accept, forget
from backupd.retention import Decision, Retention, decide, in_order
from backupd.snapshot import Manifest


@dataclass(frozen=True)
class ForgetPlan:
    """What becomes of each snapshot of a volume, the latest first; printed as a person reads it.

    `untouched` says why nothing is decided about a volume, where that is so.
    """

    host: str
    volume: str
    policy: str = ""
    decisions: tuple[Decision, ...] = ()
    forgotten: tuple[Manifest, ...] = ()
    untouched: str | None = None
    frozen: bool = False

    def __str__(self) -> str:
        name = f"{self.volume} on {self.host}"
        if self.untouched:
            return f"{name}: not touched: {self.untouched}"
        lines = [f"{name}: {self.policy}: {len(self.forgotten)} of {len(self.decisions)} forgotten"]
        for decision in self.decisions:
            word = "keep  " if decision.keep else "forget"
            lines.append(f"  {decision.snapshot}  {word}  {', '.join(decision.reasons)}")
        if self.frozen:
            lines.append(f"  {hint(self.volume)}")
        return "\n".join(lines)

    def agreed(self, again: ForgetPlan) -> ForgetPlan:
        """The plan without what a later plan for the same volume would keep."""
        gone = {manifest.snapshot for manifest in again.forgotten}
        return replace(self, forgotten=tuple(each for each in self.forgotten if each.snapshot in gone))

    def as_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "host": self.host,
            "volume": self.volume,
            "policy": self.policy or None,
            "untouched": self.untouched,
            "frozen": self.frozen,
            "snapshots": [
                {"snapshot": each.snapshot, "keep": each.keep, "reasons": list(each.reasons)}
                for each in self.decisions
            ],
        }


def plan(
    repository: Repository, *, host: str, volume: str, policy: Retention, now: datetime, zone: tzinfo
) -> ForgetPlan:
    """Apply a policy to the snapshots of a host's volume, and say what would be forgotten.

    An unreadable manifest raises: where not everything is seen, nothing can be decided.
    """
    entries = repository.history(host, volume)
    decisions = decide([entry.candidate for entry in entries], policy, now, zone=zone)
    return _plan(host, volume, f"keep {policy}", entries, decisions)


def plan_one(
    repository: Repository, selector: str, *, host: str, now: datetime, even_last: bool
) -> ForgetPlan:
    """Forget the one snapshot of a host that `selector` names.

    The newest good snapshot of its volume (the newest, if none is good) is refused without `even_last`.
    """
    if selector == "latest":
        raise SnapshotNotFound("latest is no snapshot's id", hint="give an id: see `backupd snapshots`")
    manifest = repository.find(None, selector, host=host)
    volume = manifest.volume.name
    entries = repository.history(host, volume)
    if manifest.snapshot == _last_good(entries, now) and not even_last:
        raise RepositoryError(
            f"{manifest.snapshot} is the last good snapshot of {volume}",
            hint="--even-last forgets it all the same",
        )
    decisions = [
        Decision(entry.manifest.snapshot, False, ("named",))
        if entry.manifest.snapshot == manifest.snapshot
        else Decision(entry.manifest.snapshot, True, ("not named",))
        for entry in reversed(entries)
    ]
    return _plan(host, volume, "forget one", entries, decisions)


def execute(repository: Repository, plan: ForgetPlan) -> list[str]:
    """Forget what the plan says, the oldest first; the ids of what was forgotten.

    Interrupted, it leaves every snapshot whole or gone.
    """
    forget(repository.storage, plan.forgotten)
    return [manifest.snapshot for manifest in plan.forgotten]


def accept_collapse(repository: Repository, *, host: str, volume: str) -> list[str]:
    """Let retention go on for a volume that has collapsed; the ids of the snapshots that are now as good."""
    accepted = [entry.manifest for entry in repository.history(host, volume) if entry.collapsed]
    for manifest in accepted:
        accept(repository.storage, manifest)
    return [manifest.snapshot for manifest in accepted]


def _plan(
    host: str, volume: str, policy: str, entries: Sequence[Entry], decisions: Sequence[Decision]
) -> ForgetPlan:
    gone = {decision.snapshot for decision in decisions if not decision.keep}
    return ForgetPlan(
        host=host,
        volume=volume,
        policy=policy,
        decisions=tuple(decisions),
        forgotten=tuple(entry.manifest for entry in entries if entry.manifest.snapshot in gone),
        frozen=any(entry.collapsed for entry in entries),
    )


def _last_good(entries: Sequence[Entry], now: datetime) -> str:
    ordered = in_order([entry.candidate for entry in entries], now)
    present = [each for each in ordered if each.taken <= now] or ordered
    good = [each for each in present if each.state == "good"]
    return (good or present)[-1].snapshot
