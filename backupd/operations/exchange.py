"""Put a snapshot in the place of what a volume holds, while the containers that use it are stopped."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from backupd.engine.discovery import survey
from backupd.engine.journal import Change
from backupd.engine.quiesce import Patient, Quiesce, recover
from backupd.engine.staging import Staging
from backupd.errors import RoomMissing, VolumeInUse
from backupd.operations.backup import backup
from backupd.operations.context import Context
from backupd.operations.filling import fill
from backupd.operations.proof import prove
from backupd.operations.unfinished import Note, note, strike
from backupd.progress import Progress, silent
from backupd.snapshot import Manifest
from backupd.treatment import Treatment
from backupd.volume import Container, Volume

SPARE = 1.05
"""How much more room than its files have bytes a snapshot is given."""


@dataclass(frozen=True)
class Exchange:
    """A volume, and the snapshot whose content is to take the place of the volume's.

    `safe`: what the volume holds is saved before.
    """

    context: Context
    manifest: Manifest
    volume: str
    safe: bool

    def execute(self, *, progress: Progress, cancel: threading.Event) -> str | None:
        """Do it; the snapshot of what the volume held, if it was saved.

        Who mounts the volume is stopped, in order, and started again at the end, also where something fails.
        Until the new content has proved to be the snapshot's, byte for byte, the old is untouched, and stays
        whatever fails. What a killed process leaves, `unfinished.finish` ends.
        """
        staging = Staging(
            self.context.engine,
            self.volume,
            self.context.image,
            self.context.instance,
            self.manifest.snapshot,
        )
        stopped = self._stop(cancel)
        try:
            saved = self._saved(cancel) if self.safe else None
            self._stage(staging, progress, cancel)
            staging.prove()
            self._check_unused()
            staging.swap()
        except BaseException:
            staging.undo()
            self._start(stopped)
            raise
        self._start(stopped)
        return saved

    def _stop(self, cancel: threading.Event) -> tuple[Change, ...]:
        """Stop who uses the volume; from here on the note tells who is to run again, and not the journal.

        For what follows takes a snapshot of the volume, and a run has containers for itself.
        """
        quiet = Quiesce(
            self.context.engine,
            self.context.journal,
            self._users,
            image=self.context.image,
            instance=self.context.instance,
            limit_seconds=threading.TIMEOUT_MAX,
            cancel=cancel,
        )
        with quiet:
            stopped = quiet.keep()
            note(
                self.context.state_dir,
                Note(self.context.engine.id, self.volume, self.manifest.snapshot, stopped),
            )
        return stopped

    def _start(self, stopped: Sequence[Change]) -> None:
        self.context.journal.record(*stopped)
        strike(self.context.state_dir, self.volume)
        recover(self.context.engine, self.context.journal)

    def _check_unused(self) -> None:
        users = survey(self.context.engine).users(self.volume)
        if running := [user.name for user in users if user.state == "running"]:
            raise VolumeInUse(
                f"container {running[0]} was started while volume {self.volume} was being restored",
                hint="keep it from being started, and try again",
            )

    def _users(self) -> tuple[Patient, ...]:
        users = survey(self.context.engine).users(self.volume)
        return tuple(Patient(user, Treatment("stop")) for user in users)

    def _saved(self, cancel: threading.Event) -> str:
        return backup(self.context, self.volume, treat=_untouched, progress=silent, cancel=cancel).snapshot

    def _stage(self, staging: Staging, progress: Progress, cancel: threading.Event) -> None:
        free, needed = staging.begin(), int(SPARE * self.manifest.bytes.content)
        if free < needed:
            raise RoomMissing(
                f"volume {self.volume} has {free / 1e6:,.0f} MB left, and its files and the snapshot's,"
                f" {needed / 1e6:,.0f} MB, must fit beside each other",
                hint="make room, or restore with --in-place-wipe, which removes the old files first",
            )
        fill(self.context, self.manifest, self.volume, below=staging.below, progress=progress, cancel=cancel)
        prove(self.context, self.manifest, self.volume, below=staging.below, progress=progress, cancel=cancel)


def _untouched(_volume: Volume, _container: Container) -> Treatment:
    """All are stopped already."""
    return Treatment("none")
