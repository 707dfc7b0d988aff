"""A process of its own on a repository: `write DIRECTORY HOST SECONDS` or `prune DIRECTORY STATE SECONDS`."""

from __future__ import annotations

import random
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

from backupd.operations.prune import prune
from backupd.repository import Repository
from backupd.storage.local import LocalStorage
from tests.streams import noise, save, tar_of

KEPT = 2


def stream(seed: int) -> bytes:
    """A small tree, of which there are few, so that what one snapshot loses the next one wants again."""
    return tar_of({f"./{name}": noise(300_000, seed=seed * 10 + name) for name in range(3)})


def main(role: str, directory: str, name: str, seconds: float) -> None:
    """Do it again and again until the time is over."""
    until = time.monotonic() + seconds
    with LocalStorage(Path(directory)) as storage:
        repository = Repository.open(storage)
        while time.monotonic() < until:
            if role == "write":
                _write(repository, name)
            else:
                prune(repository, state_dir=Path(name), grace=timedelta(), cancel=threading.Event())


def _write(repository: Repository, host: str) -> None:
    seed = random.randrange(3)
    save(repository, stream(seed), host=host, volume=f"v{seed}")
    print(host, seed, flush=True)
    for manifest in repository.snapshots(host)[:-KEPT]:
        for key in (manifest.key, manifest.chunks_key, manifest.index_key):
            repository.storage.delete(key)
    repository.storage.flush()


if __name__ == "__main__":
    main(*sys.argv[1:4], float(sys.argv[4]))
