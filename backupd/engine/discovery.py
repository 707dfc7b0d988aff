"""What is there: the volumes of an engine, the containers that use them, and news of both."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from backupd.engine.client import Engine, described, not_found
from backupd.engine.door import door
from backupd.engine.labels import HELPER, HOLD
from backupd.engine.own import own_container
from backupd.errors import EngineError, OwnVolume
from backupd.volume import Container, Mount, Volume

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class Survey:
    """Every volume and every container of an engine at one time; backupd's own are left out.

    `own_volumes` are those that this process itself keeps its repository or state in: they are no one's data.
    `held` are those that a container of backupd's holds.
    """

    volumes: tuple[Volume, ...]
    containers: tuple[Container, ...]
    own_volumes: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()

    def volume(self, name: str) -> Volume:
        """The volume of exactly that name; `VolumeNotFound` names the nearest others."""
        for volume in self.volumes:
            if volume.name == name:
                return volume
        raise not_found(name, (volume.name for volume in self.volumes))

    def check_not_own(self, name: str) -> None:
        """`OwnVolume` where the volume is one that backupd itself writes to."""
        if name in self.own_volumes:
            raise own_volume(name)

    def users(self, name: str) -> tuple[Container, ...]:
        """The containers, running or not, that mount the volume."""
        return tuple(c for c in self.containers if any(mount.volume == name for mount in c.mounts))


@dataclass(frozen=True)
class VolumeEvent:
    """Something happened that may change which volumes there are or who uses them.

    `subscribed` says that events may have been missed before: list again; `lost` that none can be heard now.
    """

    kind: Literal["subscribed", "lost", "volume", "container"]
    action: str
    name: str


def own_volume(name: str) -> OwnVolume:
    """What to say of a volume that backupd itself writes to, when somebody wants it saved or replaced."""
    return OwnVolume(
        f"volume {name} holds backupd's own repository or state",
        hint="copy a repository by other means; the state can be made anew",
    )


def survey(engine: Engine) -> Survey:
    """List the volumes and the containers, both sorted by name."""
    own = own_container(engine)
    with door("list volumes and containers"):
        volumes = [described(answer) for answer in engine.api.volumes()["Volumes"] or ()]
        answers = engine.api.containers(all=True)
    held = [answer for answer in answers if _holds(answer)]
    containers = [_container(answer) for answer in answers if not _holds(answer) and not _helps(answer)]
    if own is not None:
        containers = [container for container in containers if container.id != own.id]
    return Survey(
        volumes=tuple(sorted(volumes, key=lambda volume: volume.name)),
        containers=tuple(sorted(containers, key=lambda container: container.name)),
        own_volumes=own.volumes if own else frozenset(),
        held=frozenset(answer["Labels"][HOLD] for answer in held),
    )


def writers(engine: Engine, volumes: Collection[str]) -> tuple[Container, ...]:
    """The containers, running or not, that mount one of the volumes read-write; cheaper than a survey."""
    if not volumes:
        return ()
    with door("list containers"):
        answers = engine.api.containers(all=True, filters={"volume": list(volumes)})
    found = [_container(answer) for answer in answers if not _helps(answer) and not _holds(answer)]
    return tuple(each for each in found if any(each.writes(volume) for volume in volumes))


def events(engine: Engine, stop: threading.Event) -> Iterator[VolumeEvent]:
    """Yield each creation and destruction of a volume or container until `stop` is set.

    Yields `subscribed` after each (re)subscription and `lost` at the end of one, or of an attempt. Never
    raises for an engine that is away: it tries again.
    """
    delay = FIRST_RETRY_SECONDS
    while not stop.is_set():
        try:
            for event in _subscription(engine, stop):
                delay = FIRST_RETRY_SECONDS
                yield event
        except EngineError:
            delay = min(2 * delay, LAST_RETRY_SECONDS)
        if not stop.is_set():
            yield VolumeEvent("lost", "", "")
        stop.wait(delay)


def _subscription(engine: Engine, stop: threading.Event) -> Iterator[VolumeEvent]:
    filters = {"type": ["volume", "container"], "event": ["create", "destroy"]}
    with door("listen to the events of the engine"):
        stream = engine.api.events(decode=True, filters=filters)
        with _closed_on(stop, stream):
            yield VolumeEvent("subscribed", "", "")
            for answer in stream:
                event = _event(answer)
                if event is not None:
                    yield event


@contextmanager
def _closed_on(stop: threading.Event, stream: Any) -> Iterator[None]:
    """Close the stream once `stop` is set: a read that waits for the next event cannot be told otherwise."""
    left = threading.Event()

    def watch() -> None:
        while not left.is_set() and not stop.wait(0.25):
            pass
        with suppress(OSError):
            stream.close()

    watcher = threading.Thread(target=watch, name="backupd-events", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        watcher.join()


def _event(answer: Mapping[str, Any]) -> VolumeEvent | None:
    actor = answer.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    if HELPER in attributes or (HOLD in attributes and answer["Action"] == "create"):
        return None
    if answer.get("Type") == "volume":
        return VolumeEvent("volume", answer["Action"], actor.get("ID", ""))
    return VolumeEvent("container", answer["Action"], attributes.get("name", ""))


def _helps(answer: Mapping[str, Any]) -> bool:
    return HELPER in (answer.get("Labels") or {})


def _holds(answer: Mapping[str, Any]) -> bool:
    """Whether it is there for the sake of a volume only; one that has run is somebody's."""
    return HOLD in (answer.get("Labels") or {}) and answer["State"] == "created"


def _container(answer: Mapping[str, Any]) -> Container:
    return Container(
        id=answer["Id"],
        name=_name(answer),
        image=answer["Image"],
        state=answer["State"],
        labels=answer.get("Labels") or {},
        mounts=tuple(
            Mount(volume=mount["Name"], destination=mount["Destination"], read_write=mount["RW"])
            for mount in answer.get("Mounts") or ()
            if mount.get("Type") == "volume"
        ),
    )


def _name(answer: Mapping[str, Any]) -> str:
    """A linked container also has names such as `/other/alias`; a container on its way out may have none."""
    short_id: str = answer["Id"][:12]
    names: list[str] = [name.removeprefix("/") for name in answer.get("Names") or ()]
    return next((name for name in names if "/" not in name), short_id)
