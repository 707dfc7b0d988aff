"""What nobody protects, or what is protected in vain: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from backupd.protection import Protection
from backupd.volume import COMPOSE_VOLUME, Container, Volume

Kind = Literal["idle", "unlabelled", "anonymous"]


@dataclass(frozen=True)
class Content:
    """How much a volume holds: `size_bytes`, or more than that where it was not looked through to its end."""

    size_bytes: int
    whole: bool


@dataclass(frozen=True)
class Gap:
    """A volume that needs a decision: why, and what to do; `content` where that was cheap to learn."""

    volume: str
    kind: Kind
    reason: str
    hint: str
    users: tuple[str, ...] = ()
    content: Content | None = None


def gaps(
    protections: Iterable[Protection],
    users: Callable[[str], Sequence[Container]],
    look: Callable[[str], Content | None],
) -> tuple[Gap, ...]:
    """The volumes that need a decision, in the order given.

    Protected ones to which no container writes; ones of which nobody has said whether they are to be
    protected; and of the anonymous ones those that hold something. `look` says what a volume holds, None
    where that is not known.
    """
    return tuple(gap for each in protections for gap in _gaps(each, users(each.volume.name), look))


def _gaps(
    protection: Protection, users: Sequence[Container], look: Callable[[str], Content | None]
) -> Iterator[Gap]:
    volume, names = protection.volume, tuple(user.name for user in users)
    if protection.policy is not None:
        if not any(user.writes(volume.name) for user in users):
            yield Gap(
                volume.name,
                "idle",
                "is protected, but no container writes to it",
                "is it the right one? if nobody needs it any more: backupd.enable=false, or remove it",
                names,
            )
    elif protection.unasked:
        content = look(volume.name)
        if not volume.anonymous:
            yield Gap(volume.name, "unlabelled", _unlabelled(names), _line(volume, users), names, content)
        elif content is None or content.size_bytes:
            yield Gap(volume.name, "anonymous", _nameless(names), _name_it(users, volume), names, content)


def _unlabelled(users: Sequence[str]) -> str:
    return f"nobody has said whether to protect it; {_used(users)}"


def _nameless(users: Sequence[str]) -> str:
    return f"has no name of its own and holds files, which go with its container; {_used(users)}"


def _used(users: Sequence[str]) -> str:
    return f"used by {', '.join(users)}" if users else "no container uses it"


def _line(volume: Volume, users: Sequence[Container]) -> str:
    """A volume that exists gets no new labels; the containers that use it are easily made anew."""
    writer = next((user for user in users if user.writes(volume.name)), None)
    if writer is None:
        return f'in the configuration: [[volume]] match = "{volume.name}", enable = true (or false)'
    name = volume.name
    if writer.project and writer.project == volume.project:
        name = volume.labels.get(COMPOSE_VOLUME, name)
    what = f"service {writer.service}" if writer.service else f"container {writer.name}"
    return f"label {what}: backupd.volume.{name}.enable=true (or false)"


def _name_it(users: Sequence[Container], volume: Volume) -> str:
    for user in users:
        for mount in user.mounts:
            if mount.volume == volume.name:
                return f"give {mount.destination} of {user.name} a named volume, and label that"
    return f"look into it, then: docker volume rm {volume.name}"
