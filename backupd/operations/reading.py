"""Who uses a volume, what is done with them while it is read, and what the reading then was worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from backupd.engine.discovery import Survey
from backupd.engine.helper import TarResult
from backupd.errors import HelperFailed
from backupd.operations.consistency import others_may_write, weakest
from backupd.snapshot import Consistency, Quiesced
from backupd.volume import Container, Volume

NAMES_MAX = 10
"""A manifest names at most so many of the files that changed."""


@dataclass(frozen=True)
class Stillness:
    """A quiet that is over: who was held still, from when to when, and what the engine says after it."""

    calmed: tuple[str, ...]
    began: datetime
    ended: datetime
    seconds: float
    after: Survey


@dataclass(frozen=True)
class Verdict:
    """What can be said of a reading."""

    consistency: Consistency
    quiesced: Quiesced
    began: datetime
    ended: datetime
    changed: bool
    sockets: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """A volume that is about to be read, and the containers that mount it; `mode` is `pause` or `none`."""

    volume: Volume
    users: tuple[Container, ...]
    mode: str

    @property
    def to_hold(self) -> tuple[Container, ...]:
        """The containers that must stand still for this volume."""
        return self._writers if self.mode == "pause" else ()

    @property
    def _writers(self) -> tuple[Container, ...]:
        """Containers that can write to the volume and may be running while it is read.

        Those that are paused, too: a backup of another volume may hold them, and let go too early.
        """
        return tuple(user for user in self.users if self._writes(user, "running", "paused"))

    def judge(self, result: TarResult, stillness: Stillness, *, named: bool) -> Verdict:
        """What tar's end and the quiet come to; `HelperFailed` if a volume changed that nobody could change.

        `named`: whether files that changed may be named.
        """
        held = tuple(user.name for user in self._writers if user.name in stillness.calmed)
        intruders = tuple(self._intruders(stillness))
        foreign = others_may_write(self.volume)
        consistency: Consistency = "fuzzy" if intruders or foreign else self._consistency(held)
        if result.exit_code and consistency != "fuzzy":
            raise HelperFailed(
                f"files of {self.volume.name} changed while they were read, though nothing that mounts it "
                "ran: " + "; ".join(result.messages[:NAMES_MAX]),
                hint="something outside the engine writes to the volume: stop it, or set quiesce to none",
            )
        started = [f"{name} was started while the volume was read" for name in intruders]
        shared = [f"others may have written to the volume while it was read: {foreign}"] if foreign else []
        return Verdict(
            consistency=consistency,
            quiesced=Quiesced(self.mode, held, round(stillness.seconds, 3) if held else 0.0),
            began=stillness.began,
            ended=stillness.ended,
            changed=bool(result.exit_code),
            sockets=sum(message.endswith("socket ignored") for message in result.messages),
            warnings=(*_words(result, named=named), *started, *shared),
        )

    def _consistency(self, held: Sequence[str]) -> Consistency:
        """A container that was paused by its owner writes nothing, but may be in the middle of something."""
        return weakest(
            [
                "crash-consistent" if user.name in held or user.state == "paused" else "fuzzy"
                for user in self._writers
            ]
        )

    def _intruders(self, stillness: Stillness) -> Iterator[str]:
        """Containers that can write to the volume, run now, and were not held, nor running when it began."""
        known = {
            user.id for user in self._writers if user.state == "running" or user.name in stillness.calmed
        }
        for user in stillness.after.users(self.volume.name):
            if self._writes(user, "running") and user.id not in known:
                yield user.name

    def _writes(self, user: Container, *states: str) -> bool:
        return user.writes(self.volume.name) and user.state in states


def _words(result: TarResult, *, named: bool) -> list[str]:
    words = [message for message in result.messages if not message.endswith("socket ignored")]
    if words and not named:
        return [f"tar had {len(words)} messages, which name files and are not kept"]
    return words[:NAMES_MAX]
