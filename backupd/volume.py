"""Volumes and the containers that mount them, as values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

COMPOSE_PROJECT = "com.docker.compose.project"
COMPOSE_SERVICE = "com.docker.compose.service"
COMPOSE_VOLUME = "com.docker.compose.volume"
_ANONYMOUS = "com.docker.volume.anonymous"
COMPOSE_NUMBER = "com.docker.compose.container-number"


@dataclass(frozen=True)
class Volume:
    """A Docker named volume as the engine describes it."""

    name: str
    driver: str
    options: Mapping[str, str]
    labels: Mapping[str, str]

    @property
    def project(self) -> str | None:
        """The compose project that made the volume."""
        return self.labels.get(COMPOSE_PROJECT)

    @property
    def anonymous(self) -> bool:
        """Whether the engine has made up its name."""
        return _ANONYMOUS in self.labels or bool(re.fullmatch(r"[0-9a-f]{64}", self.name))


@dataclass(frozen=True)
class Mount:
    """Where a container mounts a named volume."""

    volume: str
    destination: str
    read_write: bool


@dataclass(frozen=True)
class Container:
    """A container and its named volumes; `state` is the engine's word: running, paused, exited, …"""

    id: str
    name: str
    image: str
    state: str
    labels: Mapping[str, str]
    mounts: tuple[Mount, ...]

    @property
    def project(self) -> str | None:
        """The compose project the container belongs to."""
        return self.labels.get(COMPOSE_PROJECT)

    @property
    def service(self) -> str | None:
        """The compose service the container runs."""
        return self.labels.get(COMPOSE_SERVICE)

    def writes(self, volume: str) -> bool:
        """Whether the container mounts that volume read-write."""
        return any(mount.volume == volume and mount.read_write for mount in self.mounts)
