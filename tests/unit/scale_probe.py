"""Measures an operation on a synthetic repository: COUNT snapshots of 100 chunks each, none of them shared.

Prints by how many MB the memory of the process grew at most, and the seconds that it took.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backupd.operations.verify import verify
from backupd.progress import silent
from backupd.repository import Repository
from backupd.repository.encryption.chunkkeys import chunk_of, stem_of
from backupd.repository.sidecar import SidecarWriter
from backupd.repository.stream.codec import Codec
from backupd.snapshot import Chunks, Manifest, Quiesced, Sidecars, Sizes, Tar, new_id
from backupd.storage.base import ObjectInfo
from backupd.storage.memory import MemoryStorage
from backupd.volume import Volume

CHUNKS = 100
VOLUMES = 20
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
INDEX_LINE = (
    b'{"path":"./x","type":"file","size":1,"mode":420,"uid":0,"gid":0,"mtime":0,"offset":0,'
    b'"chunk":[0,0],"skip":0}'
)


class Synthetic(MemoryStorage):
    """Keeps everything but chunks, of which it has `count`, made up as they are asked for.

    So what is measured is the memory of the operation, not that of a storage in memory.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self._frame = Codec().encode(b"a chunk")

    def key(self, number: int) -> str:
        """The key of a chunk; they are in the order of the numbers."""
        return f"{stem_of(f'{number * (1 << 256) // self.count:064x}')}.zst"

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The made up chunks, or what was put."""
        if prefix != "chunks/":
            return super().list(prefix)
        return (ObjectInfo(self.key(n), len(self._frame), BEGUN) for n in range(self.count))

    def exists(self, key: str) -> bool:
        """Chunks are all there."""
        return chunk_of(key) is not None or super().exists(key)


def build(snapshots: int) -> Synthetic:
    """A repository of so many snapshots, of some volumes, an hour apart."""
    storage = Synthetic(snapshots * CHUNKS)
    Repository.init(storage)
    for number in range(snapshots):
        manifest = _manifest(number)
        # Numbers far from each other: ids are hashes, and those of a snapshot lie anywhere.
        keys = [storage.key(number + snapshots * chunk) for chunk in range(CHUNKS)]
        sums = [
            _put(storage, manifest.chunks_key, [key.encode() for key in keys]),
            _put(storage, manifest.index_key, [INDEX_LINE]),
        ]
        storage.put(manifest.key, _manifest(number, Sidecars(*sums)).encode())
    storage.flush()
    return storage


def _put(storage: MemoryStorage, key: str, lines: list[bytes]) -> str:
    with SidecarWriter() as sidecar:
        for line in lines:
            sidecar.add(line)
        return sidecar.put(storage, key)


def _manifest(number: int, sidecars: Sidecars | None = None) -> Manifest:
    begun = BEGUN + timedelta(hours=number)
    return Manifest(
        snapshot=f"{new_id(begun)[:-4]}{number % 65536:04x}",
        host="db1",
        volume=Volume(f"volume_{number % VOLUMES}", "local", {}, {"com.docker.compose.project": "shop"}),
        started=begun,
        finished=begun,
        consistency="crash-consistent",
        quiesced=Quiesced("pause", ("shop-postgres-1",), 1.5),
        tar=Tar("gnu", "1.35", ("--format=posix", "--sort=name", "--numeric-owner", "--xattrs", "--acls")),
        members={"file": 1},
        bytes=Sizes(tar=10240, content=1, new=0, stored=0),
        chunks=Chunks(CHUNKS, CHUNKS, 7, 7),
        sidecars=sidecars or Sidecars("", ""),
        outcome="ok",
        tool="backupd test",
    )


def _verify(storage: Synthetic, caches: Path) -> None:
    found: list[object] = []
    with_cache = Repository.open(storage, caches=caches)
    counts = verify(with_cache, found=found.append, progress=silent, cancel=threading.Event()).counts
    assert (found, counts.chunks) == ([], storage.count)


def _damaged(storage: Synthetic, caches: Path) -> None:
    """Every chunk is gone."""
    lost = Synthetic(storage.count)
    lost.__dict__.update(storage.__dict__)
    lost.list = lambda prefix="": iter(()) if prefix.startswith("chunks/") else storage.list(prefix)  # type: ignore[method-assign]
    lost.exists = lambda key: chunk_of(key) is None and storage.exists(key)  # type: ignore[method-assign]
    told = 0

    def count(_: object) -> None:
        nonlocal told
        told += 1

    repository = Repository.open(lost, caches=caches)
    verified = verify(repository, found=count, progress=silent, cancel=threading.Event())
    assert verified.marked == told == storage.count


def _cold(storage: Synthetic, caches: Path) -> None:
    with Repository.open(storage, remote=True, caches=caches).begin(host="db1", volume="v", snapshot="s"):
        pass


def _list(storage: Synthetic, caches: Path) -> None:
    assert len(Repository.open(storage, caches=caches).snapshots()) == storage.count // CHUNKS


OPERATIONS: dict[str, Callable[[Synthetic, Path], None]] = {
    "verify": _verify,
    "damaged": _damaged,
    "cold-cache": _cold,
    "snapshots": _list,
    "snapshots-cached": _list,
}


def main(operation: str, snapshots: int) -> None:
    """Build, measure, and print."""
    storage = build(snapshots)
    with tempfile.TemporaryDirectory() as caches:
        if operation == "snapshots-cached":
            _list(storage, Path(caches))
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        begun = time.perf_counter()
        OPERATIONS[operation](storage, Path(caches))
        seconds = time.perf_counter() - begun
        print((_status("VmHWM") - before) // 1024, f"{seconds:.2f}")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
