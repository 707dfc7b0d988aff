"""Containers that never run, for the sake of what they refer to: the engine removes no volume in use."""

from __future__ import annotations

import re
from dataclasses import dataclass

from docker.errors import NotFound

from backupd.engine import labels
from backupd.engine.client import Engine
from backupd.engine.container import remove
from backupd.engine.door import door
from backupd.engine.image import HelperImage
from backupd.engine.mount import existing_volume, made_by_accident
from backupd.errors import VolumeNotFound

_PLACE = "/held"


@dataclass(frozen=True)
class Hold:
    """A container that holds a volume, and whose it is."""

    volume: str
    container: str
    name: str
    instance: str


def name_of(volume: str) -> str:
    """What the container is called that holds the volume."""
    return "backupd-hold-" + re.sub(r"[^a-zA-Z0-9_.-]", "-", volume)


def holds(engine: Engine) -> tuple[Hold, ...]:
    """What is held on the engine, by whichever backupd, sorted by volume."""
    with door("look for containers that hold volumes"):
        found = engine.api.containers(all=True, filters={"label": [labels.HOLD]})
    made = (
        Hold(
            each["Labels"][labels.HOLD],
            each["Id"],
            each["Names"][0].removeprefix("/"),
            each["Labels"].get(labels.INSTANCE, ""),
        )
        for each in found
        if each["State"] == "created" and each.get("Names")
    )
    return tuple(sorted(made, key=lambda hold: hold.volume))


def hold(engine: Engine, volume: str, image: HelperImage, *, instance: str) -> None:
    """Make the container that holds the volume; `VolumeNotFound` if there is none by now."""
    mount = existing_volume(engine, volume, _PLACE, read_only=True)
    api = engine.api
    with door(f"hold volume {volume}"):
        made = api.create_container(
            image.reference,
            ["true"],
            name=name_of(volume),
            labels={labels.HOLD: volume, labels.INSTANCE: instance},
            network_disabled=True,
            healthcheck={"test": ["NONE"]},
            use_config_proxy=False,
            host_config=api.create_host_config(
                mounts=[mount], network_mode="none", read_only=True, cap_drop=["ALL"]
            ),
        )["Id"]
    if made_by_accident(engine, volume):
        remove(engine, made)
        engine.remove_volume(volume)
        raise VolumeNotFound(f"volume {volume} was deleted in the meantime")


def let_go(engine: Engine, volume: str) -> bool:
    """Remove whatever holds the volume; whether anything did."""
    found = [each for each in holds(engine) if each.volume == volume]
    for each in found:
        with door(f"remove container {each.name}"):
            try:
                # Not by force: a container that runs after all is somebody's.
                engine.api.remove_container(each.container)
            except NotFound:
                continue
    return bool(found)
