"""Reading one snapshot: its chunk list, its index, its tar stream or parts of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice

from backupd.errors import Interrupted, ObjectDamaged
from backupd.repository.chunks import ChunkStore
from backupd.repository.encryption.chunkkeys import chunk_of
from backupd.repository.encryption.encryption import Encryption
from backupd.repository.sidecar import read_lines
from backupd.repository.stream import index
from backupd.repository.stream.index import IndexEntry
from backupd.repository.verification.inventory import Inventory
from backupd.snapshot import Manifest
from backupd.storage.base import CORES, ObjectInfo, Storage

_AHEAD = 16
"""Chunks fetched and decoded ahead: of 5 MiB at most, so 80 MiB, and usually a tenth of that."""

LISTED_FROM = 512
"""From so many chunks on, listing the 256 folders of chunks takes fewer requests than asking for each."""


class SnapshotReader:
    """A committed snapshot. All it returns was checked against hashes that the manifest vouches for."""

    def __init__(
        self, storage: Storage, chunks: ChunkStore, encryption: Encryption | None, manifest: Manifest
    ) -> None:
        self._encryption = encryption
        self._storage = storage
        self._chunks = chunks
        self.manifest = manifest

    def chunk_keys(self) -> Iterator[str]:
        """The keys of the chunks in tar order."""
        for line in read_lines(self._storage, self.manifest.chunks_key, sha256=self.manifest.sidecars.chunks):
            key = line.decode("ascii", "replace")
            if chunk_of(key) is None:
                raise ObjectDamaged(f"{self.manifest.chunks_key} names {key!r}, which is no chunk")
            yield key

    def members(self) -> Iterator[IndexEntry]:
        """The index, in tar order."""
        lines = self._index_lines()
        if self._encryption:
            next(lines, None)
        for line in lines:
            yield index.decode(line, key=self.manifest.index_key)

    def concealed(self) -> dict[str, str]:
        """What the manifest does not say of the volume, by the names in its `redacted`: `options.o`."""
        if self._encryption is None:
            return {}
        with closing(self._index_lines()) as lines:
            return index.decode_concealed(next(lines, b""), key=self.manifest.index_key)

    def check_readable(self) -> None:
        """`KeyMissing` where the repository is encrypted and there is no identity to read it with."""
        if self._encryption:
            self._encryption.check_readable()

    def _index_lines(self) -> Generator[bytes, None, None]:
        manifest = self.manifest
        return read_lines(
            self._storage, manifest.index_key, sha256=manifest.sidecars.index, encryption=self._encryption
        )

    def check_present(self) -> None:
        """`ObjectDamaged`, naming the first, unless every chunk is there; contents are not read."""
        missing, example = 0, ""
        for key in self._missing():
            missing, example = missing + 1, example or key
        if missing:
            raise ObjectDamaged(
                f"snapshot {self.manifest.snapshot} is damaged: {missing} chunks missing, first {example}",
                hint="restore an earlier snapshot, or bring the chunks back from a copy of the repository",
            )

    def _missing(self) -> Iterator[str]:
        if self._chunks.concurrency <= CORES or self.manifest.chunks.count < LISTED_FROM:
            yield from self.absent(self._chunks.present)
            return
        # A request a chunk would double what a restore asks of the storage: its listings tell of a thousand.
        with Inventory() as inventory:
            inventory.name(self.chunk_keys())
            with ThreadPoolExecutor(self._chunks.concurrency, thread_name_prefix="present") as pool:
                for infos in pool.map(self._listed, range(256)):
                    inventory.list(infos)
            yield from (key for key in inventory.unlisted() if not self._chunks.present(key))

    def _listed(self, shard: int) -> list[ObjectInfo]:
        return list(self._storage.list(f"chunks/{shard:02x}/"))

    def absent(self, present: Callable[[str], bool]) -> Iterator[str]:
        """The chunks' keys that are not `present`, which is asked of many at once."""
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="present") as pool:
            keys = self.chunk_keys()
            while batch := list(islice(keys, 4096)):
                yield from (
                    key for key, there in zip(batch, pool.map(present, batch), strict=True) if not there
                )

    def stream(
        self, cancel: threading.Event, first: int = 0, last: int | None = None
    ) -> Generator[bytes, None, None]:
        """The contents of the chunks from `first` to `last`, both included, in order: the tar stream.

        Chunks are fetched, decoded and checked ahead in parallel, a bounded number of them.
        """
        keys = islice(self.chunk_keys(), first, None if last is None else last + 1)
        pending: deque[Future[bytes]] = deque()
        ahead = max(_AHEAD, self._chunks.concurrency)
        with ThreadPoolExecutor(1 + self._chunks.concurrency, thread_name_prefix="fetch") as pool:
            try:
                pending.extend(pool.submit(self._chunks.load, key) for key in islice(keys, ahead))
                while pending:
                    if cancel.is_set():
                        raise Interrupted(f"reading snapshot {self.manifest.snapshot} was told to stop")
                    content = pending.popleft().result()
                    pending.extend(pool.submit(self._chunks.load, key) for key in islice(keys, 1))
                    yield content
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
