"""Measures an operation on a synthetic repository: COUNT snapshots of 100 chunks each, none of them shared.

Each has four packs and a slice list of its own.

Prints by how many MB the memory of the process grew at most, and the seconds that it took.
"""

from __future__ import annotations

import hashlib
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
from backupd.repository.sidecar import SidecarWriter
from backupd.repository.slices import Slice, is_pack, owner_of
from backupd.snapshot import Chunks, Manifest, Quiesced, Sidecars, Sizes, Tar, new_id
from backupd.storage.base import ObjectInfo
from backupd.storage.memory import MemoryStorage
from backupd.volume import Volume

CHUNKS = 100
IN_PACK = 25
SIZE = 160_000
VOLUMES = 20
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
INDEX_LINE = (
    b'{"path":"./x","type":"file","size":1,"mode":420,"uid":0,"gid":0,"mtime":0,"offset":0,'
    b'"chunk":[0,0],"skip":0}'
)


class Synthetic(MemoryStorage):
    """Keeps everything but packs, of which each of `count` snapshots has four, made up as they are asked for.

    So what is measured is the memory of the operation, not that of a storage in memory.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def slices(self, number: int) -> list[Slice]:
        """What a snapshot names, all of it stored by its own writer."""
        owner = _manifest(number).key.removeprefix("snapshots/").removesuffix(".json")
        ids = [hashlib.sha256(b"%d %d" % (number, chunk)).hexdigest() for chunk in range(CHUNKS)]
        return [
            Slice(f"packs/{owner}/{chunk // IN_PACK:016x}.pack", chunk % IN_PACK * SIZE, SIZE, ids[chunk])
            for chunk in range(CHUNKS)
        ]

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The made up packs, or what was put."""
        if prefix != "packs/":
            return super().list(prefix)
        order = sorted(range(self.count), key=lambda number: (str(number % VOLUMES), number))
        packs = (dict.fromkeys(each.pack for each in self.slices(number)) for number in order)
        return (ObjectInfo(key, IN_PACK * SIZE, BEGUN) for keys in packs for key in keys)

    def exists(self, key: str) -> bool:
        """Packs are all there."""
        return is_pack(key) or super().exists(key)


def build(snapshots: int) -> Synthetic:
    """A repository of so many snapshots, of some volumes, an hour apart."""
    storage = Synthetic(snapshots)
    Repository.init(storage)
    for number in range(snapshots):
        manifest = _manifest(number)
        lines = [each.line() for each in storage.slices(number)]
        _put(storage, f"slices/{owner_of(storage.slices(number)[0].pack)}/{number:016x}.zst", lines)
        sums = [
            _put(storage, manifest.chunks_key, lines),
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
    assert (found, counts.chunks) == ([], storage.count * CHUNKS)


def _damaged(storage: Synthetic, caches: Path) -> None:
    """Every pack is gone."""
    lost = Synthetic(storage.count)
    lost.__dict__.update(storage.__dict__)
    lost.list = lambda prefix="": iter(()) if prefix == "packs/" else storage.list(prefix)  # type: ignore[method-assign]
    lost.exists = lambda key: not is_pack(key) and storage.exists(key)  # type: ignore[method-assign]
    told = 0

    def count(_: object) -> None:
        nonlocal told
        told += 1

    repository = Repository.open(lost, caches=caches)
    verified = verify(repository, found=count, progress=silent, cancel=threading.Event())
    assert verified.marked == told == storage.count * CHUNKS // IN_PACK


def _cold(storage: Synthetic, caches: Path) -> None:
    with Repository.open(storage, caches=caches).begin(host="db1", volume="v", snapshot="s"):
        pass


def _list(storage: Synthetic, caches: Path) -> None:
    assert len(Repository.open(storage, caches=caches).snapshots()) == storage.count


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
