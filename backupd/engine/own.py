"""The container that this process runs in, where it runs in one of the engine's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from docker.errors import NotFound

from backupd.engine.client import Engine
from backupd.engine.door import door

_FILES = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
_CONTAINER = re.compile(r"/containers/([0-9a-f]{64})/")


@dataclass(frozen=True)
class OwnMount:
    """What is mounted at `destination`: the volume called `source`, or that directory of the host."""

    kind: Literal["volume", "bind"]
    source: str
    destination: str
    read_write: bool


@dataclass(frozen=True)
class OwnContainer:
    """The container, the id of its image, and what is mounted in it."""

    id: str
    image: str
    mounts: tuple[OwnMount, ...]

    @property
    def volumes(self) -> frozenset[str]:
        """The volumes that backupd itself writes to: its repository, its state."""
        return frozenset(m.source for m in self.mounts if m.kind == "volume" and m.read_write)


def own_container(engine: Engine) -> OwnContainer | None:
    """The container that this process runs in; None on a host, or in a container of another engine."""
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for identity in containers_in(mountinfo):
        with door("look for backupd's own container"), suppress(NotFound):
            return _described(engine.api.inspect_container(identity))
    return None


def containers_in(mountinfo: str) -> tuple[str, ...]:
    """The ids that the mounts of a container's own files name, in the form of proc(5).

    The engine mounts these files out of the container's directory. Other mounts prove nothing: on a host, and
    in a container that sees the engine's directory, those of every container show.
    """
    found = []
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) > 4 and fields[4] in _FILES and (named := _CONTAINER.search(fields[3])):
            found.append(named[1])
    return tuple(dict.fromkeys(found))


def _described(answer: Mapping[str, Any]) -> OwnContainer:
    mounts = (_mount(mount) for mount in answer.get("Mounts") or () if mount["Type"] in ("volume", "bind"))
    return OwnContainer(answer["Id"], answer["Image"], tuple(mounts))


def _mount(answer: Mapping[str, Any]) -> OwnMount:
    source = answer["Name"] if answer["Type"] == "volume" else answer["Source"]
    return OwnMount(answer["Type"], source, answer["Destination"], answer["RW"])
