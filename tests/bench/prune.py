"""How long it takes to prune a fifth of a million chunks: `python -m tests.bench.prune [DIRECTORY]`."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from backupd.operations.prune import Pruned, prune
from backupd.repository import Repository, packer
from backupd.storage.local import LocalStorage
from tests.unit.test_collection_machine import MANIFEST, sidecars_of, store

CHUNKS = 1_000_000
IN_PACK = 40
SIZE_BYTES = 100
SNAPSHOTS = 10


def main(directory: str | None) -> None:
    """Make the repository, prune it in one call without a grace period, and print both times."""
    with (
        tempfile.TemporaryDirectory(dir=directory) as place,
        LocalStorage.create(Path(place) / "repository") as storage,
        patch.object(packer, "PACK_BYTES", IN_PACK * SIZE_BYTES),
    ):
        repository = Repository.init(storage)
        begun = time.monotonic()
        for number in range(SNAPSHOTS):
            _write(repository, f"s{number}")
        packs = sum(1 for _ in storage.list("packs/"))
        for manifest in repository.snapshots()[: SNAPSHOTS // 5]:
            storage.delete(manifest.key)
        storage.flush()
        print(f"made {CHUNKS} chunks in {packs} packs in {time.monotonic() - begun:.1f} s")
        begun = time.monotonic()
        done = _prune(repository, Path(place))
        print(f"pruned {done.deleted_packs} packs in {time.monotonic() - begun:.1f} s")


def _write(repository: Repository, snapshot: str) -> None:
    """A snapshot of chunks of its own."""
    with repository.begin(host="one", volume="v", snapshot=snapshot) as writer:
        slices = store(
            repository.storage, writer, (os.urandom(SIZE_BYTES) for _ in range(CHUNKS // SNAPSHOTS))
        )
        sidecars = sidecars_of(repository.storage, f"snapshots/one/v/{snapshot}", slices)
        repository.storage.flush()
        writer.commit(replace(MANIFEST, host="one", snapshot=snapshot, sidecars=sidecars))


def _prune(repository: Repository, state_dir: Path) -> Pruned:
    return prune(repository, state_dir=state_dir, grace=timedelta(), cancel=threading.Event())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
