"""Volumes that are held against deletion, and those that a person has let go of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from backupd.engine.client import Engine
from backupd.engine.discovery import Survey
from backupd.engine.hold import hold, let_go
from backupd.engine.image import HelperImage
from backupd.errors import BackupdError, VolumeNotFound
from backupd.protection import Protection

log = structlog.get_logger(__name__)


class Released:
    """The volumes that are not to be held any more, in a directory that outlives this process.

    A volume that was made anew under the same name counts as another one.
    """

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "released"

    def note(self, volume: str, created: str) -> None:
        """Remember it, durably enough: what is forgotten is held again."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            (self._directory / volume).write_text(created, encoding="utf-8")
        except OSError as error:
            raise BackupdError(
                f"cannot remember that {volume} is released: {(error.strerror or str(error)).lower()}",
                hint=f"make {self._directory} writable",
            ) from error

    def forget(self, volume: str) -> None:
        """Hold it again from now on."""
        (self._directory / volume).unlink(missing_ok=True)

    def has(self, volume: str, created: str) -> bool:
        """Whether this very volume was released."""
        try:
            return (self._directory / volume).read_text(encoding="utf-8") == created
        except OSError:
            return False

    def names(self) -> tuple[str, ...]:
        """Every volume of which that was said."""
        return tuple(sorted(path.name for path in self._directory.glob("*")))


def wanted(protections: Iterable[Protection]) -> tuple[str, ...]:
    """The volumes that labels or settings want held."""
    return tuple(each.volume.name for each in protections if each.policy and each.policy.guard == "hold")


class Keeper:
    """Holds what is to be held, again and again: a container that never ran is easily pruned.

    `image` is asked for an image each time that a container is made.
    """

    def __init__(
        self, engine: Engine, image: Callable[[], HelperImage], *, instance: str, state_dir: Path
    ) -> None:
        self._engine, self._image, self._instance = engine, image, instance
        self._released = Released(state_dir)
        self._told: dict[str, str] = {}

    def keep(self, seen: Survey, protections: Iterable[Protection]) -> None:
        """Hold each volume that is to be held and is not. One that fails is logged, and the others go on."""
        there = {volume.name for volume in seen.volumes}
        for name in self._released.names():
            if name not in there:
                self._released.forget(name)
        for name in wanted(protections):
            if name not in seen.held:
                self._hold(name)

    def _hold(self, name: str) -> None:
        try:
            if self._released.has(name, self._engine.created(name)):
                return
            hold(self._engine, name, self._image(), instance=self._instance)
        except VolumeNotFound:
            return
        except BackupdError as error:
            if self._told.get(name) != error.message:
                log.warning("volume cannot be held", volume=name, error=error.message, hint=error.hint)
            self._told[name] = error.message
        else:
            log.info("volume is held", volume=name)
            self._told.pop(name, None)


def release(engine: Engine, volume: str, *, state_dir: Path) -> bool:
    """Let go of the volume, and let no daemon on this state directory hold it again; whether it was held."""
    Released(state_dir).note(volume, engine.created(volume))
    return let_go(engine, volume)
