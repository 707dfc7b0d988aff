"""What of an engine is not protected, and what of that has been told already."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from backupd.engine.client import Engine
from backupd.engine.clues import content
from backupd.engine.discovery import Survey
from backupd.gaps import Gap, gaps
from backupd.protection import Protection


def unprotected(engine: Engine, seen: Survey, protections: Iterable[Protection]) -> tuple[Gap, ...]:
    """The volumes of the survey that need a decision; backupd's own need none."""
    others = [each for each in protections if each.volume.name not in seen.own_volumes]
    return gaps(others, seen.users, lambda volume: content(engine, seen, volume))


class Reported:
    """Which gaps have been told of, kept in a state directory: each is told once, and again if it comes back.

    Where the directory cannot be used, what was told before is not known.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "reported-gaps.json"

    def new(self, found: Sequence[Gap]) -> tuple[Gap, ...]:
        """Those that have not been told of; from now on they have."""
        before = self._before()
        now = sorted({_key(gap) for gap in found})
        if now != before:
            self._keep(now)
        return tuple(gap for gap in found if _key(gap) not in before)

    def _before(self) -> list[str]:
        try:
            told = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return told if isinstance(told, list) else []

    def _keep(self, told: Sequence[str]) -> None:
        beside = self._path.with_suffix(".new")
        with suppress(OSError):
            beside.write_text(json.dumps(told), encoding="utf-8")
            beside.replace(self._path)


def _key(gap: Gap) -> str:
    return f"{gap.kind} {gap.volume}"
