"""How what happened is put into words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from backupd.health import Problem, ago
from backupd.notify.notice import Kind, Notice
from backupd.record import Record
from backupd.runs import Run

_LISTED = 10


def failed(host: str, run: Run, record: Record, now: datetime) -> Notice:
    """A run ended without a snapshot."""
    since = record.failing_since or now
    last = (
        f"the last snapshot is {ago(record.success.started, now)} old"
        if record.success
        else "there is no snapshot yet"
    )
    return Notice(
        "failed",
        host,
        now,
        f"backup of {run.volume} failed",
        f"The backup of volume {run.volume} failed: {run.error}; {last}.",
        volume=run.volume,
        since=since,
        hint=run.hint or f"see the log, then `backupd backup {run.volume}`",
    )


def degraded(host: str, run: Run, now: datetime) -> Notice:
    """A run ended with a snapshot, and something went wrong beside it."""
    return Notice(
        "degraded",
        host,
        now,
        f"backup of {run.volume} had trouble",
        f"There is a snapshot of volume {run.volume}, but: {run.error}.",
        volume=run.volume,
        since=run.started,
        hint=run.hint,
    )


def collapsed(host: str, run: Run, earlier: str, now: datetime) -> Notice:
    """A volume holds next to nothing of what it held in the snapshot `earlier`."""
    volume = run.volume
    return Notice(
        "collapsed",
        host,
        now,
        f"{volume} has lost nearly everything",
        f"Volume {volume} holds next to nothing of what it held in snapshot {earlier}. It was saved, and "
        "none of its snapshots is forgotten until you say that this is right.",
        volume=volume,
        since=run.started,
        hint=f"if it is wrong: `backupd restore {volume} --snapshot {earlier} --replace`; "
        f"if it is right: `backupd forget {volume} --accept-collapse`",
    )


def damaged(host: str, damage: Sequence[str], now: datetime) -> Notice:
    """A verification has found something."""
    listed = "\n".join(f"- {each}" for each in damage[:_LISTED])
    more = f"\n- and {len(damage) - _LISTED} more" if len(damage) > _LISTED else ""
    return Notice(
        "damaged",
        host,
        now,
        "the repository is damaged",
        f"Found when it was verified:\n{listed}{more}",
        hint="`backupd verify` names the files that it hits; backing up again now mends what volumes still "
        "have; then look to the disk or the storage",
    )


def recovered(host: str, volume: str | None, since: datetime, now: datetime) -> Notice:
    """Nothing is left of what was told."""
    subject = f"{volume} is backed up again" if volume else "all is well again"
    text = f"What was told of {f'volume {volume}' if volume else 'this installation'} is over; "
    return Notice("recovered", host, now, subject, f"{text}it lasted {ago(since, now)}.", volume, since)


def problem(host: str, found: Problem, now: datetime) -> Notice:
    """Not all is well."""
    subject = {
        "overdue": f"{found.volume} is not backed up as it should be",
        "misconfigured": f"{found.volume} cannot be protected",
        "clock": "the clock cannot be believed",
        "stuck": "containers are down",
        "ledger": "the state directory cannot be used",
        "starting": "the volumes are not known yet",
    }[found.kind]
    kind: Kind = found.kind
    text = f"Volume {found.volume}: {found.text}" if found.volume else found.text
    return Notice(
        kind, host, now, subject, f"{text}.", volume=found.volume, since=found.since, hint=found.hint
    )


def succeeded(run: Run) -> str:
    """A line for machines that watch: a run ended with a snapshot."""
    if run.manifest is None:
        return f"{run.outcome}: no snapshot"
    sizes = run.manifest.bytes
    return (
        f"{run.outcome}: snapshot {run.manifest.snapshot} of {run.volume} in {run.seconds:.0f} s, "
        f"{sizes.new} of {sizes.tar} bytes new"
    )


def unprotected(host: str, gaps: Sequence[tuple[str, str]], now: datetime) -> Notice:
    """Volumes that are not backed up as somebody may think: each its name and why."""
    listed = "\n".join(f"- {text}" if text.startswith(name) else f"- {name}: {text}" for name, text in gaps)
    count = len(gaps)
    return Notice(
        "gaps",
        host,
        now,
        f"{count} {'volume needs' if count == 1 else 'volumes need'} a decision",
        f"Found now, and told once:\n{listed}",
        hint="`backupd volumes --unprotected` shows what to write where; backupd.enable=false settles it too",
    )


def test(host: str, now: datetime) -> Notice:
    """What `backupd notify --test` sends."""
    return Notice("test", host, now, "a test", "This is a test. Failures and recoveries will come this way.")
