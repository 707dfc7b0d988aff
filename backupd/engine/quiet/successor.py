"""The container that a recorded one is now: compose makes new ones in the place of old."""

from __future__ import annotations

from docker.errors import APIError

from backupd.engine.client import Engine
from backupd.engine.door import door
from backupd.engine.journal import Change
from backupd.engine.quiet.condition import Condition, condition
from backupd.volume import COMPOSE_NUMBER, COMPOSE_PROJECT, COMPOSE_SERVICE, Container

_LABELS = (COMPOSE_PROJECT, COMPOSE_SERVICE, COMPOSE_NUMBER)


def compose_identity(container: Container) -> tuple[str, ...]:
    """Project, service and number of a container that compose made, else nothing."""
    identity = tuple(container.labels.get(label, "") for label in _LABELS)
    return identity if all(identity) else ()


def current(engine: Engine, change: Change) -> Condition | None:
    """How the recorded container is, or the one that compose put in its place; None if there is neither."""
    found = condition(engine, change.container, change.name)
    if (found is not None and not found.removing) or not change.compose:
        return found if found is not None and not found.removing else None
    for successor in _successors(engine, change):
        replaced = condition(engine, successor, change.name)
        if replaced is not None and not replaced.removing:
            return replaced
    return None


def _successors(engine: Engine, change: Change) -> list[str]:
    wanted = [f"{label}={value}" for label, value in zip(_LABELS, change.compose, strict=True)]
    with door(f"look for the successor of container {change.name}"):
        try:
            found = engine.api.containers(all=True, filters={"label": wanted})
        except APIError as error:
            if error.status_code == 404:  # one of the list went meanwhile
                return []
            raise
    return [answer["Id"] for answer in found if answer["Id"] != change.container]
