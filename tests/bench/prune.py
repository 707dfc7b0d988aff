"""How long a prune of a fifth of 100,000 chunks takes: `python -m tests.bench.prune [DIRECTORY]`."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

from backupd.operations.prune import Pruned, prune
from backupd.repository import Repository
from backupd.repository.chunks import ChunkStore
from backupd.storage.local import LocalStorage
from tests.unit.test_collection_machine import write_chunks

CHUNKS = 100_000
GARBAGE = 20_000
SIZE_BYTES = 4096


def main(directory: str | None) -> None:
    """Make the repository, prune it in one call without a grace period, and print both times."""
    with (
        tempfile.TemporaryDirectory(dir=directory) as place,
        LocalStorage.create(Path(place) / "repository") as storage,
    ):
        repository = Repository.init(storage)
        begun = time.monotonic()
        write_chunks(storage, "one", "s", _stored(repository.chunks, CHUNKS - GARBAGE))
        for _ in _stored(repository.chunks, GARBAGE):
            pass
        storage.flush()
        print(f"made {CHUNKS} chunks in {time.monotonic() - begun:.1f} s")
        begun = time.monotonic()
        done = _prune(repository, Path(place))
        print(f"pruned {done.deleted_chunks} of them in {time.monotonic() - begun:.1f} s")


def _stored(chunks: ChunkStore, count: int) -> list[str]:
    return [chunks.store(os.urandom(SIZE_BYTES)).key for _ in range(count)]


def _prune(repository: Repository, state_dir: Path) -> Pruned:
    return prune(repository, state_dir=state_dir, grace=timedelta(), cancel=threading.Event())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
