"""Containers that were stopped for something that did not come about run again."""

from __future__ import annotations

from dataclasses import dataclass

from docker.errors import NotFound

from backupd.engine.client import Engine
from backupd.engine.door import door
from backupd.errors import EngineError
from backupd.volume import COMPOSE_PROJECT


@dataclass(frozen=True)
class Alive:
    """A container that runs, or has been paused; and since when, by the engine's clock."""

    id: str
    name: str
    since: str
    paused: bool


def alive(engine: Engine, project: str) -> tuple[Alive, ...]:
    """The containers of a compose project that run, in the order in which they were started."""
    found = []
    with door(f"look at the containers of project {project}"):
        label = f"{COMPOSE_PROJECT}={project}"
        for each in engine.api.containers(filters={"label": [label]}):
            try:
                answer = engine.api.inspect_container(each["Id"])
            except NotFound:
                continue
            state, name = answer["State"], answer["Name"].removeprefix("/")
            found.append(Alive(each["Id"], name, state["StartedAt"], bool(state["Paused"])))
    return tuple(sorted(found, key=lambda container: container.since))


def revive(engine: Engine, containers: tuple[Alive, ...]) -> tuple[str, ...]:
    """Start those that do not run any more, in order, and pause those that were paused; their names.

    Who has been removed is left out. After all were tried, raises the error of the first that did not start.
    """
    revived, failures = [], []
    for container in containers:
        try:
            with door(f"start container {container.name}"):
                if not _runs(engine, container):
                    engine.api.start(container.id)
                    if container.paused:
                        engine.api.pause(container.id)
                    revived.append(container.name)
        except EngineError as error:
            failures.append(error)
    if failures:
        names = " ".join(container.name for container in containers)
        raise EngineError(failures[0].message, hint=f"start it by hand: docker start {names}")
    return tuple(revived)


def _runs(engine: Engine, container: Alive) -> bool:
    """Whether it runs; true of one that is no more, since nothing is left to be done."""
    try:
        return bool(engine.api.inspect_container(container.id)["State"]["Running"])
    except NotFound:
        return True
