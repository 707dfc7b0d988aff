"""What every operation on the engine works with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backupd.engine.client import Engine
from backupd.engine.image import HelperImage
from backupd.engine.journal import Journal
from backupd.repository import Repository


@dataclass(frozen=True)
class Context:
    """An engine, a repository, and who acts between them.

    `host` is the name under which snapshots are kept, `instance` marks this installation's helpers,
    `state_dir` is where durable notes and locks are,
    `fifo_dir` is where the engine's helpers can meet this process (None: they cannot), and
    `quiesce_limit_seconds` how long a backup may keep an application from its work.
    """

    engine: Engine
    repository: Repository
    journal: Journal
    image: HelperImage
    host: str
    instance: str
    state_dir: Path
    fifo_dir: Path | None
    quiesce_limit_seconds: float = 600.0
