"""Volumes that belong together: they are read while the containers of all of them stand still."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backupd.protection import Protection


@dataclass(frozen=True)
class Group:
    """Protected volumes with one schedule; a volume that is read alone is a group of its own name.

    `key` is unique among the groups of an engine.
    """

    key: str
    name: str
    schedule: str
    members: tuple[Protection, ...]

    @property
    def volumes(self) -> tuple[str, ...]:
        """The names of the volumes."""
        return tuple(member.volume.name for member in self.members)

    @property
    def seed(self) -> str:
        """What a time of the group's own, H or @daily, is made from."""
        return self.name


def groups(protections: Iterable[Protection]) -> tuple[Group, ...]:
    """The groups of the volumes that are protected, each volume in exactly one, in the order of the volumes.

    Volumes of one `group`, or else of one compose project, that share a schedule are together. A group of
    one volume has the volume's name: whether it has a project changes nothing for it.
    """
    together: dict[tuple[str, ...], list[Protection]] = {}
    for protection in protections:
        if protection.policy is not None:
            together.setdefault(_which(protection, protection.policy.schedule), []).append(protection)
    return tuple(_group(which, tuple(members)) for which, members in together.items())


def _which(protection: Protection, schedule: str) -> tuple[str, ...]:
    volume, group = protection.volume, protection.policy.group if protection.policy else None
    if group:
        return ("group", group, schedule)
    if group is None and volume.project:
        return ("project", volume.project, schedule)
    return ("volume", volume.name, schedule)


def _group(which: tuple[str, ...], members: tuple[Protection, ...]) -> Group:
    kind, name, schedule = which
    if len(members) == 1:
        name = members[0].volume.name
        return Group(f"volume {name}", name, schedule, members)
    return Group(f"{kind} {name} {schedule}", name, schedule, members)
