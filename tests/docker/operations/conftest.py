"""What an operation works with: a real engine, a repository on disk, a journal, a helper image."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from backupd.engine.client import Engine
from backupd.engine.image import helper_image
from backupd.engine.journal import Journal
from backupd.operations.backup import backup
from backupd.operations.context import Context
from backupd.operations.restore import Consent, RestoreResult, execute, plan
from backupd.operations.taking import Wish
from backupd.operations.window import Result, read_together
from backupd.progress import Progress, silent
from backupd.repository import Keys, Repository
from backupd.snapshot import Manifest
from backupd.storage.local import LocalStorage
from backupd.treatment import Mode, Treatment
from tests.faults import FaultyStorage


@dataclass(frozen=True)
class Site:
    """A context whose storage can be told to fail, and short ways to use it."""

    context: Context
    storage: FaultyStorage
    directory: Path

    def on(self, storage: FaultyStorage) -> Site:
        """The same site, its repository seen through that storage."""
        return replace(self, context=replace(self.context, repository=Repository.open(storage)))

    def backup(self, volume: str, *, mode: Mode = "pause", exclude: tuple[str, ...] = ()) -> Manifest:
        """A snapshot of the volume."""
        return backup(
            self.context,
            volume,
            treat=lambda _volume, _container: Treatment(mode),
            exclude=exclude,
            progress=silent,
            cancel=threading.Event(),
        )

    def wish(self, volume: str, *, mode: Mode = "pause", progress: Progress = silent) -> Wish:
        """To save a volume."""
        return Wish(self.context, volume, lambda _volume, _container: Treatment(mode), (), progress)

    def together(self, *volumes: str, mode: Mode = "pause") -> tuple[Result, ...]:
        """What became of the volumes, read in one window."""
        return self.fulfil(*(self.wish(volume, mode=mode) for volume in volumes))

    def fulfil(self, *wishes: Wish) -> tuple[Result, ...]:
        """What became of wishes, in one window."""
        return read_together(self.context, wishes, cancel=threading.Event())

    def restore(
        self, manifest: Manifest, *, to: str | None = None, replace: bool = False, wipe: bool = False
    ) -> RestoreResult:
        """The snapshot put back."""
        made = plan(self.context, manifest, to=to, consent=Consent(replace, wipe))
        return execute(self.context, made, progress=silent, cancel=threading.Event())


@pytest.fixture
def site(engine: Engine, tmp_path: Path) -> Iterator[Site]:
    """A repository of its own on the disk, and everything that works with it."""
    with site_on(engine, tmp_path, Keys()) as made:
        yield made


@contextmanager
def site_on(engine: Engine, tmp_path: Path, keys: Keys) -> Iterator[Site]:
    """The same, encrypted if the keys say so."""
    fifo_dir = tmp_path / "fifo"
    fifo_dir.mkdir()
    with LocalStorage.create(tmp_path / "repository") as local:
        storage = FaultyStorage(local)
        context = Context(
            engine=engine,
            repository=Repository.init(storage, keys),
            journal=Journal(tmp_path / "journal"),
            image=helper_image(engine, None, lambda _: None, instance="backupd-test"),
            host="testhost",
            instance=f"test-{tmp_path.name}",
            state_dir=tmp_path,
            fifo_dir=fifo_dir,
        )
        yield Site(context, storage, tmp_path)
