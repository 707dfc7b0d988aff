"""One prune as a run: alone on its state directory, and with one closing line in the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from backupd.errors import BackupdError, Interrupted, Locked
from backupd.operations.lock import prune_lock
from backupd.progress import Progress, silent
from backupd.repository import Repository
from backupd.repository.gc.collection import Pending, ripe
from backupd.repository.gc.prune import Plan, execute, plan

log = structlog.get_logger(__name__)

_LAST = "prune.last"


@dataclass(frozen=True)
class Pruned:
    """What a run has done, and which collections go on later.

    `sparse_bytes` is what sparse packs hold that nobody needs.
    """

    deleted_packs: int
    deleted_bytes: int
    condemned_packs: int
    condemned_bytes: int
    sparse_packs: int
    sparse_bytes: int
    pending: tuple[Pending, ...]


def prune(
    repository: Repository,
    *,
    state_dir: Path,
    grace: timedelta,
    condemn: bool = True,
    approve: Callable[[Plan], None] = lambda plan: None,
    shown: Callable[[str], AbstractContextManager[Progress]] = lambda things: nullcontext(silent),
    cancel: threading.Event,
) -> Pruned:
    """Delete what earlier runs condemned, and condemn what is garbage now unless told not to.

    What `approve` raises ends the run before anything is deleted. `shown` opens a display of progress that
    counts snapshots read, or packs deleted. Without a grace period one run does both,
    unless somebody writes at the moment.
    """
    begun = time.monotonic()
    storage = repository.storage
    try:
        with prune_lock(state_dir):
            with shown("snapshots") as progress:
                made = plan(storage, grace=grace, condemn=condemn, progress=progress, cancel=cancel)
            approve(made)
            with shown("packs") as progress:
                set_id = execute(storage, made, progress=progress, cancel=cancel)
            result = _result(made, set_id, grace)
            if set_id is not None and not grace:
                with shown("snapshots") as progress:
                    again = plan(storage, grace=grace, condemn=False, progress=progress, cancel=cancel)
                with shown("packs") as progress:
                    execute(storage, again, progress=progress, cancel=cancel)
                result = _both(result, again)
    except BackupdError as error:
        _tell_failure(error, time.monotonic() - begun)
        raise
    if condemn:
        (state_dir / _LAST).touch()
    _tell(result, time.monotonic() - begun)
    return result


def last_prune(state_dir: Path) -> datetime | None:
    """When the last run on this state directory that looked for garbage had ended well."""
    try:
        return datetime.fromtimestamp((state_dir / _LAST).stat().st_mtime, UTC)
    except OSError:
        return None


def due(repository: Repository, grace: timedelta) -> bool:
    """Whether a run would find packs to delete that an earlier one condemned."""
    return ripe(repository.storage, datetime.now(UTC), grace)


def _result(made: Plan, set_id: str | None, grace: timedelta) -> Pruned:
    new = () if set_id is None else (Pending(set_id, made.moment + grace, ()),)
    return Pruned(
        deleted_packs=len(made.doomed.packs),
        deleted_bytes=made.doomed.size_bytes,
        condemned_packs=len(made.garbage.packs),
        condemned_bytes=made.garbage.size_bytes,
        sparse_packs=len(made.sparse.packs),
        sparse_bytes=made.sparse.unused_bytes,
        pending=(*made.pending, *new),
    )


def _both(first: Pruned, again: Plan) -> Pruned:
    return replace(
        first,
        deleted_packs=first.deleted_packs + len(again.doomed.packs),
        deleted_bytes=first.deleted_bytes + again.doomed.size_bytes,
        pending=again.pending,
    )


def _tell(result: Pruned, seconds: float) -> None:
    log.info(
        "prune finished",
        outcome="ok",
        seconds=round(seconds, 3),
        deleted_packs=result.deleted_packs,
        deleted_bytes=result.deleted_bytes,
        condemned_packs=result.condemned_packs,
        condemned_bytes=result.condemned_bytes,
        sparse_packs=result.sparse_packs,
        sparse_bytes=result.sparse_bytes,
        pending=[each.set_id for each in result.pending],
    )


def _tell_failure(error: BackupdError, seconds: float) -> None:
    facts = {"seconds": round(seconds, 3), "error": error.message, "hint": error.hint}
    if isinstance(error, Interrupted):
        log.warning("prune interrupted", outcome="interrupted", **facts)
    elif isinstance(error, Locked):
        log.warning("prune skipped", outcome="skipped", **facts)
    else:
        log.error("prune failed", outcome="failed", **facts)
