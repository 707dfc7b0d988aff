"""Mounts of volumes that exist, and of nothing else."""

from __future__ import annotations

from docker.types import DriverConfig, Mount

from backupd.engine.client import Engine

_ACCIDENT = "backupd.made-by-accident"


def existing_volume(engine: Engine, name: str, target: str, *, read_only: bool) -> Mount:
    """A mount of the volume that cannot bring it into being; `VolumeNotFound` if there is none.

    A container's mount creates a volume that does not exist, and one may vanish after any check. So the mount
    asks for a driver option that no driver knows: an existing volume is mounted all the same, a creation is
    refused. Should a driver accept it, the label tells that the volume is our accident.
    """
    driver = engine.volume(name).driver
    return Mount(
        target,
        name,
        type="volume",
        read_only=read_only,
        no_copy=True,
        labels={_ACCIDENT: "true"},
        driver_config=DriverConfig(driver, {"backupd-must-exist": "true"}),
    )


def made_by_accident(engine: Engine, name: str) -> bool:
    """Whether the volume exists only because such a mount has made it."""
    return _ACCIDENT in engine.volume(name).labels
