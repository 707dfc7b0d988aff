"""Helpers that a crash has left behind."""

from __future__ import annotations

from backupd.engine import labels
from backupd.engine.client import Engine
from backupd.engine.container import remove
from backupd.engine.door import door
from backupd.engine.journal import Journal


def reap(engine: Engine, instance: str, journal: Journal) -> tuple[str, ...]:
    """Remove this instance's helpers whose process no longer lives; their names.

    A process lives as long as it holds its file in the journal's directory.
    """
    ours = [f"{labels.HELPER}=true", f"{labels.INSTANCE}={instance}"]
    with door("look for helper containers"):
        found = engine.api.containers(all=True, filters={"label": ours})
    reaped = []
    for helper in found:
        if not journal.lives(helper["Labels"].get(labels.PROCESS, "")):
            remove(engine, helper["Id"])
            reaped.append(helper["Names"][0].removeprefix("/"))
    return tuple(reaped)
