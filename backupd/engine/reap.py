"""Helpers that a crash has left behind."""

from __future__ import annotations

from backupd.engine import labels
from backupd.engine.client import Engine
from backupd.engine.container import remove
from backupd.engine.door import door
from backupd.engine.journal import PROCESS, Journal


def reap(engine: Engine, instance: str, journal: Journal) -> tuple[str, ...]:
    """Remove this instance's helpers that nobody uses any more; their names.

    Those are the helpers of processes that no longer live, and those of this process that it once tried to
    remove in vain. A process lives as long as it holds its file in the journal's directory.
    """
    ours = [f"{labels.HELPER}=true", f"{labels.INSTANCE}={instance}"]
    with door("look for helper containers"):
        found = engine.api.containers(all=True, filters={"label": ours})
    reaped = []
    for helper in found:
        name, process = helper["Names"][0].removeprefix("/"), helper["Labels"].get(labels.PROCESS, "")
        if (process == PROCESS and name not in engine.helpers) or not journal.lives(process):
            remove(engine, helper["Id"])
            reaped.append(name)
    return tuple(reaped)
