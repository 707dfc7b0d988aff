"""`backupd prune`."""

from __future__ import annotations

import threading
from argparse import Namespace
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from backupd.cli.output import confirm, print_json, say, speak
from backupd.cli.progress import cancellable, shown
from backupd.cli.words import size, when
from backupd.opening import opened
from backupd.operations.prune import Pruned, prune
from backupd.progress import Progress
from backupd.repository import Repository
from backupd.repository.gc.collection import Pending
from backupd.repository.gc.prune import Plan, plan
from backupd.settings import Settings


def run(arguments: Namespace, settings: Settings) -> int:
    """Delete packs that no snapshot names: what earlier runs condemned now, what is garbage now later."""
    speak(settings)
    cancel = threading.Event()
    with opened(settings, cancel) as repository, cancellable(cancel):
        if arguments.dry_run:
            _show(_plan(repository, settings, cancel), arguments)
            return 0
        result = _prune(repository, settings, arguments, cancel)
    if arguments.json:
        print_json(_as_json(result))
    else:
        say(_told(result))
    return 0


def _plan(repository: Repository, settings: Settings, cancel: threading.Event) -> Plan:
    with _shown("snapshots") as progress:
        return plan(
            repository.storage, grace=settings.prune.grace, dry_run=True, progress=progress, cancel=cancel
        )


def _show(made: Plan, arguments: Namespace) -> None:
    if arguments.json:
        print_json(_plan_as_json(made))
    else:
        say(_planned(made))


def _prune(
    repository: Repository, settings: Settings, arguments: Namespace, cancel: threading.Event
) -> Pruned:
    def approve(made: Plan) -> None:
        say(_planned(made))
        confirm(["prune"] if len(made.doomed.packs) + len(made.garbage.packs) else [], yes=arguments.yes)

    return prune(
        repository,
        state_dir=settings.state_dir,
        grace=settings.prune.grace,
        approve=approve,
        shown=_shown,
        cancel=cancel,
    )


def _shown(things: str) -> AbstractContextManager[Progress]:
    return shown({"snapshots": "reading chunk lists", "packs": "deleting"}[things], things=things)


def _planned(made: Plan) -> str:
    lines = [
        f"{made.snapshots} snapshots, {_amount(made.packs, made.size_bytes)}",
        f"delete now: {_amount(len(made.doomed.packs), made.doomed.size_bytes)}",
        f"condemn now, delete later: {_amount(len(made.garbage.packs), made.garbage.size_bytes)}",
    ]
    if made.pending:
        lines.append(f"condemned earlier, not due yet: {size(made.held.size_bytes)}")
        lines += _waiting(made.pending)
    if made.sparse.packs:
        lines.append(
            f"sparse: {_amount(len(made.sparse.packs), made.sparse.size_bytes)}, of which "
            f"{size(made.sparse.unused_bytes)} are not needed; backups empty them in time"
        )
    return "\n".join(lines)


def _told(result: Pruned) -> str:
    lines = [f"deleted {_amount(result.deleted_packs, result.deleted_bytes)}"]
    if result.condemned_packs:
        lines.append(f"condemned {_amount(result.condemned_packs, result.condemned_bytes)}")
    if result.pending:
        lines += [*_waiting(result.pending), "the daemon deletes them then, or `backupd prune` does"]
    return "\n".join(lines)


def _waiting(pending: tuple[Pending, ...]) -> list[str]:
    now = datetime.now(UTC)
    return [
        f"  collection {each.set_id}: not before {when(each.until, now)}"
        + (f", and waits for {', '.join(each.sessions)}" if each.sessions else "")
        for each in pending
    ]


def _amount(count: int, size_bytes: int) -> str:
    return f"{count} packs, {size(size_bytes)}"


def _plan_as_json(made: Plan) -> dict[str, Any]:
    return {
        "snapshots": made.snapshots,
        "packs": made.packs,
        "bytes": made.size_bytes,
        "delete": {"packs": len(made.doomed.packs), "bytes": made.doomed.size_bytes},
        "condemn": {"packs": len(made.garbage.packs), "bytes": made.garbage.size_bytes},
        "held_bytes": made.held.size_bytes,
        "sparse": _sparse_as_json(len(made.sparse.packs), made.sparse.unused_bytes),
        "pending": [_pending_as_json(each) for each in made.pending],
    }


def _as_json(result: Pruned) -> dict[str, Any]:
    return {
        "deleted": {"packs": result.deleted_packs, "bytes": result.deleted_bytes},
        "condemned": {"packs": result.condemned_packs, "bytes": result.condemned_bytes},
        "sparse": _sparse_as_json(result.sparse_packs, result.sparse_bytes),
        "pending": [_pending_as_json(each) for each in result.pending],
    }


def _sparse_as_json(packs: int, unused_bytes: int) -> dict[str, int]:
    return {"packs": packs, "unused_bytes": unused_bytes}


def _pending_as_json(pending: Pending) -> dict[str, Any]:
    return {
        "collection": pending.set_id,
        "not_before": pending.until.isoformat().replace("+00:00", "Z"),
        "sessions": list(pending.sessions),
    }
