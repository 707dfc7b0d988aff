"""Restores into a volume in use, noted durably while they are under way: what was killed is finished."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from backupd.engine.client import Engine
from backupd.engine.discovery import survey
from backupd.engine.image import HelperImage
from backupd.engine.journal import Change, Journal
from backupd.engine.staging import Staging
from backupd.errors import BackupdError, Locked
from backupd.operations.lock import volume_lock
from backupd.storage.publish import sync_directory


@dataclass(frozen=True)
class Note:
    """An engine's volume that gets the content of a snapshot; `stopped` is who must run again afterwards."""

    engine: str
    volume: str
    snapshot: str
    stopped: tuple[Change, ...]


def note(state_dir: Path, about: Note) -> None:
    """Keep the note; durable on return. It takes the place of an earlier one of the volume."""
    directory = state_dir / "restores"
    path = directory / f"{about.volume}.json"
    try:
        directory.mkdir(exist_ok=True)
        with path.with_suffix(".part").open("w", encoding="utf-8") as file:
            json.dump(asdict(about), file)
            file.flush()
            os.fsync(file.fileno())
        path.with_suffix(".part").replace(path)
        sync_directory(str(directory), os.fsync)
    except OSError as error:
        raise _unusable(path, error) from error


def strike(state_dir: Path, volume: str) -> None:
    """Remove the volume's note: there is nothing left to do."""
    path = state_dir / "restores" / f"{volume}.json"
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(path, error) from error


def notes(state_dir: Path) -> tuple[Note, ...]:
    """What is noted, of living processes as well."""
    return tuple(_read(path) for path in sorted((state_dir / "restores").glob("*.json")))


def finish(
    left: Sequence[Note],
    engine: Engine,
    journal: Journal,
    image: HelperImage,
    *,
    instance: str,
    state_dir: Path,
) -> Iterator[str]:
    """End what dead processes have left half done on this engine; say in words what became of each.

    Content that was proven takes its place, unless containers use the volume by now; else the old stays.
    Whoever was stopped for it is in the journal then, for `recover` to start.
    """
    for each in left:
        if each.engine != engine.id:
            continue
        with suppress(Locked), volume_lock(state_dir, each.volume):
            yield _finish(each, engine, journal, image, instance)
            strike(state_dir, each.volume)


def _finish(about: Note, engine: Engine, journal: Journal, image: HelperImage, instance: str) -> str:
    what = f"the restore of {about.snapshot} into volume {about.volume}, which was killed,"
    seen = survey(engine)
    if about.volume not in {volume.name for volume in seen.volumes}:
        return f"{what} is given up: the volume is gone"
    staging = Staging(engine, about.volume, image, instance, about.snapshot)
    if any(user.state == "running" for user in seen.users(about.volume)):
        staging.undo()
        became = "is undone, for containers use the volume"
    else:
        became = _WORDS[staging.finish()]
    journal.record(*about.stopped)
    return f"{what} {became}"


_WORDS = {
    "finished": "is finished",
    "undone": "is undone: the volume holds what it held before",
    "": "had only its containers left to start",
}


def _read(path: Path) -> Note:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        stopped = tuple(Change.read(each) for each in values.pop("stopped"))
        return Note(**values, stopped=stopped)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackupdError(
            f"{path} cannot be read: {error}",
            hint="it tells of a restore that was killed: look at the volume of that name, then remove it",
        ) from error


def _unusable(path: Path, error: OSError) -> BackupdError:
    return BackupdError(f"cannot use {path}: {error.strerror}", hint="look at the state directory")
