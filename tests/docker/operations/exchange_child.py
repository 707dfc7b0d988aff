"""A process that replaces a volume's content and is killed at the step that its arguments name."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from backupd.engine.client import Engine
from backupd.engine.image import HelperImage
from backupd.engine.journal import Journal
from backupd.engine.staging import Staging
from backupd.operations import exchange
from backupd.operations.context import Context
from backupd.operations.exchange import Exchange
from backupd.progress import silent
from backupd.repository import Repository
from backupd.storage.local import LocalStorage


def die(*_: object, **__: object) -> None:
    """As a power cut does."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(step: str) -> None:
    """Die where the step says."""
    if step == "before the new content":
        Staging.begin = die  # type: ignore[method-assign,assignment]
    elif step == "before the proof":
        exchange.prove = die
    elif step == "before the swap":
        Staging.swap = die  # type: ignore[method-assign]
    elif step == "after the swap":
        swap = Staging.swap
        Staging.swap = lambda self: die(swap(self))  # type: ignore[method-assign]
    elif step == "before the start":
        exchange.recover = die  # type: ignore[assignment]


def main() -> None:
    """Replace."""
    host, state, repository, volume, snapshot, image, version, step = sys.argv[1:]
    arm(step)
    with LocalStorage(Path(repository)) as storage:
        opened = Repository.open(storage)
        context = Context(
            engine=Engine.connect(host),
            repository=opened,
            journal=Journal(Path(state) / "journal"),
            image=HelperImage(image, "gnu", version),
            host="testhost",
            instance=f"backupd-test-{os.getpid()}",
            state_dir=Path(state),
            fifo_dir=Path(state) / "fifo",
        )
        manifest = opened.find(volume, snapshot)
        Exchange(context, manifest, volume, safe=True).execute(progress=silent, cancel=threading.Event())


if __name__ == "__main__":
    main()
