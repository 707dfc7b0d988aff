"""What would go, what becomes of it, and what may not go at all: pure, from one look at the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from backupd.engine.discovery import Survey, own_volume
from backupd.guard.removal import Project, Removal
from backupd.protection import Protection
from backupd.volume import Container, Volume

Fate = Literal["save", "unsaved", "unknown", "own"]

_RUNS = frozenset({"running", "paused", "restarting"})


@dataclass(frozen=True)
class Item:
    """A volume that may go, what becomes of it, and why: `unknown` and `own` may not go at all."""

    protection: Protection
    fate: Fate
    why: str
    held: bool
    users: tuple[str, ...]

    @property
    def volume(self) -> str:
        """The volume's name."""
        return self.protection.volume.name


@dataclass(frozen=True)
class Plan:
    """Every volume that may go; printed as a person reads it."""

    items: tuple[Item, ...]

    def of(self, *fates: Fate) -> tuple[Item, ...]:
        """Those of one of these fates."""
        return tuple(item for item in self.items if item.fate in fates)

    def __str__(self) -> str:
        return "\n".join(
            f"  {_WORDS[item.fate]} {item.volume} ({item.why}){_notes(item)}" for item in self.items
        )


_WORDS: Mapping[Fate, str] = {
    "save": "saved first:",
    "unsaved": "NOT SAVED:  ",
    "unknown": "REFUSED:    ",
    "own": "REFUSED:    ",
}


def plan(removal: Removal, seen: Survey, protections: Sequence[Protection], project: Project | None) -> Plan:
    """What the removal comes to on the engine that was seen; `protections` are of the same look.

    backupd's own volumes, and those of which nobody can tell whether they are protected, are refused.
    """
    known = {each.volume.name: each for each in protections}
    names = sorted(dict.fromkeys(volume.name for volume in _taken(removal, seen, project)))
    return Plan(tuple(_item(name, known.get(name), seen) for name in names))


def _item(name: str, protection: Protection | None, seen: Survey) -> Item:
    users = tuple(user.name for user in seen.users(name))
    held = name in seen.held
    if protection is None:
        unknown = Protection(seen.volume(name), None, "unknown")
        return Item(unknown, "unknown", "nobody can tell whether it is to be saved", held, users)
    if name in seen.own_volumes:
        return Item(protection, "own", own_volume(name).message, held, users)
    if protection.errors:
        return Item(protection, "unknown", "; ".join(protection.errors), held, users)
    if protection.policy is None:
        return Item(protection, "unsaved", protection.origin, held, users)
    if protection.policy.guard == "off":
        return Item(protection, "unsaved", "backupd.guard is off", held, users)
    return Item(protection, "save", protection.origin, held, users)


def _taken(removal: Removal, seen: Survey, project: Project | None) -> Iterator[Volume]:
    used = {mount.volume for container in seen.containers for mount in container.mounts}
    active = {m.volume for container in seen.containers if container.state in _RUNS for m in container.mounts}
    attached = set(_attached(removal, seen.containers, project))
    for volume in seen.volumes:
        name = volume.name
        # The container that backupd itself runs in uses its own volumes, and is not among those seen.
        spare = name not in seen.own_volumes
        if (
            name in removal.names
            or (removal.project and project is not None and _belongs(volume, project))
            or (volume.anonymous and name in attached)
            or (removal.prunable and name not in used and name not in seen.held and spare)
            or (removal.unused and name not in active and spare)
        ):
            yield volume


def _belongs(volume: Volume, project: Project) -> bool:
    return volume.project == project.name or volume.name in project.volumes


def _attached(removal: Removal, containers: Sequence[Container], project: Project | None) -> Iterator[str]:
    """The volumes of the containers in question."""
    for container in containers:
        of_project = removal.anonymous and project is not None and container.project == project.name
        if of_project or any(_is(container, word) for word in removal.containers):
            yield from (mount.volume for mount in container.mounts)


def _is(container: Container, word: str) -> bool:
    return word.removeprefix("/") == container.name or (bool(word) and container.id.startswith(word))


def _notes(item: Item) -> str:
    notes = [f"used by {', '.join(item.users)}"] if item.users else []
    notes += ["held"] if item.held else []
    return f"; {'; '.join(notes)}" if notes else ""
