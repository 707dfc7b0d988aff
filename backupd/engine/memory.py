"""What the engine remembers of the last things that happened on it, and which engine it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from backupd.engine import labels
from backupd.engine.client import Engine
from backupd.engine.door import door

Event = Mapping[str, Any]


def identity(engine: Engine) -> tuple[str, str]:
    """What tells this engine from others: two on one machine may have the same id."""
    with door("ask the engine who it is"):
        info = engine.api.info()
    return info["ID"], info["DockerRootDir"]


def untouched_since(engine: Engine, volume: str, run: str) -> bool:
    """Whether the volume is what the helper of `run` has read: since then nobody mounted it to write.

    The engine remembers its last 256 events. That helper's own creation must be among them: then everything
    after it is, and no clock is asked. False where it is not, as after a restart of the engine.
    """
    with door("ask the engine what happened"):
        now = str(engine.api.info()["SystemTime"])
        until: Any = _seconds(now)
        happened = list(engine.api.events(since=1, until=until, decode=True))
    return unchanged(happened, volume, run)


def unchanged(happened: Iterable[Event], volume: str, run: str) -> bool:
    """The same, of a list of events, oldest first."""
    seen = False
    for event in happened:
        actor = event.get("Actor") or {}
        attributes = actor.get("Attributes") or {}
        if attributes.get(labels.RUN) == run and event.get("Action") == "create":
            seen = True
        elif _changes(event, actor.get("ID"), attributes, volume):
            seen = False
    return seen


def _changes(event: Event, identity: str | None, attributes: Mapping[str, str], volume: str) -> bool:
    """Whether after this the volume may hold something else."""
    kind, action = event.get("Type"), event.get("Action")
    if kind == "volume" and identity == volume:
        read_only = attributes.get("read/write") == "false"
        return action in ("create", "destroy") or (action == "mount" and not read_only)
    # `docker cp` writes into a container's volumes without starting it; which ones is not told.
    return kind == "container" and action == "extract-to-dir"


def _seconds(time: str) -> str:
    """The engine's own time, to the nanosecond, as its API takes it."""
    whole, _, rest = time.partition(".")
    fraction = rest.rstrip("Z").partition("+")[0].partition("-")[0] if rest else "0"
    zone = rest[len(fraction) :] or "Z" if rest else ""
    return f"{int(datetime.fromisoformat(whole + zone).timestamp())}.{fraction:0<9}"
