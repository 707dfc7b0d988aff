"""Plans a prune of CHUNKS chunks and LISTS snapshots that name LENGTH each; prints megabytes and seconds.

The repository is made up as it is read, so that the memory is the plan's own. The last fifth of the chunks
is garbage. Each pack holds 25 chunks, of one snapshot after the other.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import zstandard

from backupd.repository.gc.prune import plan
from backupd.snapshot import Sidecars
from backupd.storage.base import ObjectInfo
from backupd.storage.memory import MemoryStorage
from tests.unit.memory_probe import peak_mb
from tests.unit.test_collection_machine import MANIFEST

IN_PACK = 25
SIZE = 160_000
OLD = datetime(2026, 1, 1, tzinfo=UTC)


class MadeUp(MemoryStorage):
    """A repository of that many chunks and snapshots; what is put is kept beside it."""

    def __init__(self, chunks: int, lists: int, length: int) -> None:
        super().__init__()
        made = random.Random(0)
        self._ids = made.randbytes(32 * chunks)
        self._packs = b"".join(sorted(made.randbytes(8) for _ in range(chunks // IN_PACK)))
        self._chunks, self._lists, self._length = chunks, lists, length

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if prefix == "packs/":
            for n in range(self._chunks // IN_PACK):
                yield ObjectInfo(self._pack(n), IN_PACK * SIZE, OLD)
        if prefix == "snapshots/":
            for n in range(self._lists):
                for ending in ("chunks.zst", "index.zst", "json"):
                    yield ObjectInfo(f"snapshots/h/v/{n:08}.{ending}", 1000, OLD)
        yield from super().list(prefix)

    def get(self, key: str, *, limit_bytes: int) -> bytes:
        if not key.startswith("snapshots/"):
            return super().get(key, limit_bytes=limit_bytes)
        name = key.removeprefix("snapshots/h/v/").removesuffix(".json")
        digest = hashlib.sha256(self._chunk_list(int(name))).hexdigest()
        return replace(MANIFEST, host="h", snapshot=name, sidecars=Sidecars(digest, "")).encode()

    def open(self, key: str) -> BinaryIO:
        if not key.endswith(".chunks.zst"):
            return super().open(key)
        return BytesIO(self._chunk_list(int(key.removeprefix("snapshots/h/v/").partition(".")[0])))

    def _chunk_list(self, number: int) -> bytes:
        """Evenly spread over the chunks in use, so that together the lists name all of them."""
        used = self._chunks * 4 // 5
        first = number * used // self._lists
        compressor, made = zstandard.ZstdCompressor(level=1).compressobj(), []
        for n in range(self._length):
            made.append(compressor.compress(f"{self._slice((first + n) % used)}\n".encode()))
        return b"".join([*made, compressor.flush()])

    def _slice(self, number: int) -> str:
        chunk = self._ids[number * 32 : number * 32 + 32].hex()
        return f"{self._pack(number // IN_PACK)}@{number % IN_PACK * SIZE}+{SIZE} {chunk}"

    def _pack(self, number: int) -> str:
        return f"packs/h/v/s/{self._packs[number * 8 : number * 8 + 8].hex()}.pack"


def main(chunks: int, lists: int, length: int) -> None:
    """Plan, and print."""
    storage = MadeUp(chunks, lists, length)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, begun = peak_mb(), time.monotonic()
    made = plan(storage, grace=timedelta(hours=24), cancel=threading.Event())
    assert (made.snapshots, made.packs) == (lists, chunks // IN_PACK)
    assert len(made.garbage.packs) == chunks // IN_PACK - chunks * 4 // 5 // IN_PACK
    assert not made.sparse.packs
    print(json.dumps({"megabytes": peak_mb() - before, "seconds": round(time.monotonic() - begun, 1)}))


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:4]))
