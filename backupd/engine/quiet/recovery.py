"""Undoing what a run has done to containers, by the run itself or by whoever finds it undone."""

from __future__ import annotations

from backupd.engine.client import Engine
from backupd.engine.journal import Change, Journal
from backupd.engine.quiet.patience import Patience
from backupd.engine.quiet.undo import Undone, kill_hooks, make_up, start_again, wake
from backupd.errors import QuiesceFailed

_AWAY_SECONDS = 15.0


def recover(engine: Engine, journal: Journal) -> tuple[str, ...]:
    """Bring back the containers of this engine that dead processes, or failed runs of this one, have left.

    The names of those that were still as they had been left. Changes to other engines are kept. Costs next to
    nothing where there is nothing to do, and leaves runs that go on alone. `QuiesceFailed`, after all were
    tried, names one that did not come back.
    """
    with journal.recovery:
        journal.adopt()
        back, failed = [], []
        left = [change for change in journal.changes if change.engine == engine.id]
        for change in reversed([change for change in left if change.run not in journal.runs]):
            try:
                undone = _recovered(engine, change)
            except QuiesceFailed as error:
                failed.append(error)
                continue
            journal.erase(change)
            failed += [QuiesceFailed(text) for text in (*undone.warnings, *undone.failed_hooks)]
            if undone.acted:
                back.append(change.name)
    if failed:
        raise failed[0]
    return tuple(dict.fromkeys(back))


def undo(engine: Engine, change: Change, patience: Patience) -> Undone:
    """Undo one change; `QuiesceFailed` where the container does not come back."""
    if change.action == "claim":
        return Undone(False)
    if change.action == "pause":
        return wake(engine, change, patience)
    if change.action == "stop":
        return start_again(engine, change, patience)
    return make_up(engine, change, patience)


def _recovered(engine: Engine, change: Change) -> Undone:
    if change.action == "hook":
        kill_hooks(engine, change)
    return undo(engine, change, Patience(away_seconds=_AWAY_SECONDS))
