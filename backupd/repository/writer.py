"""Writing one snapshot, the manifest last (docs/FORMAT.md, "Order of writing")."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from backupd.errors import RepositoryError, RepositoryUnsupported, StorageError
from backupd.progress import Progress, Tally
from backupd.repository.chunker import Cutter, require_native
from backupd.repository.chunks import ChunkStore, StoredChunk
from backupd.repository.pipeline import Pipeline, Source
from backupd.repository.sidecar import SidecarWriter
from backupd.repository.walk import Listing
from backupd.snapshot import Chunks, Manifest, Sidecars, Sizes, prefix
from backupd.storage.base import Storage


@dataclass(frozen=True)
class Content:
    """What was stored of one stream: what the manifest says of it."""

    members: Mapping[str, int]
    bytes: Sizes
    chunks: Chunks
    sidecars: Sidecars


class SnapshotWriter:
    """A context in which one snapshot comes to be. Left without `commit`, it leaves no snapshot."""

    def __init__(
        self, storage: Storage, chunks: ChunkStore, *, host: str, volume: str, snapshot: str
    ) -> None:
        require_native()
        self._storage = storage
        self._chunks = chunks
        self._stem = f"{prefix(host, volume)}{snapshot}"
        self._session = f"sessions/{snapshot}"

    def __enter__(self) -> SnapshotWriter:
        self._storage.put(self._session, b"")
        self._storage.flush()
        if next(iter(self._storage.list("gc/")), None):
            raise RepositoryUnsupported(
                f"a garbage collection of {self._storage.location} runs, which this version cannot join",
                hint="use the backupd version that collects there",
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A session that failed has ended too; where the storage fails, the first error is the one to tell.
        with contextlib.suppress(StorageError) if error else contextlib.nullcontext():
            self._storage.put(f"{self._session}.done", b"")
            self._storage.flush()

    def store(
        self, source: Source, *, at_end: Callable[[], None], progress: Progress, cancel: threading.Event
    ) -> Content:
        """Store the chunks and sidecars of a tar stream, durably; `at_end`, `cancel`: see `Pipeline.run`."""
        with SidecarWriter() as keys, SidecarWriter() as members:
            tally = _Tally(progress, members)
            pipeline = Pipeline(self._chunks, Cutter(tally.listed))
            for chunk in pipeline.run(source, at_end=at_end, cancel=cancel):
                keys.add(chunk.key.encode("ascii"))
                tally.chunk(chunk)
            sidecars = Sidecars(
                chunks=keys.put(self._storage, f"{self._stem}.chunks.zst"),
                index=members.put(self._storage, f"{self._stem}.index.zst"),
            )
        self._storage.flush()
        return tally.content(sidecars)

    def commit(self, manifest: Manifest) -> None:
        """Make the snapshot exist. Everything the manifest names must have been stored by `store`."""
        if not self._storage.put(manifest.key, manifest.encode()):
            raise RepositoryError(f"snapshot {manifest.snapshot} exists already", hint="run the backup again")
        self._storage.flush()


class _Tally:
    """Counts members and chunks, and writes the index, as they pass."""

    def __init__(self, progress: Progress, index_lines: SidecarWriter) -> None:
        self._progress = progress
        self._lines = index_lines
        self._members: Counter[str] = Counter()
        self._content_bytes = 0
        self._count = self._new_count = self._bytes = self._new = self._stored = self._max = 0
        self._min: int | None = None

    def listed(self, listing: Listing) -> None:
        """Note members."""
        self._members += listing.counts
        self._content_bytes += listing.content_bytes
        self._lines.extend(listing.lines)

    def chunk(self, chunk: StoredChunk) -> None:
        """Note one chunk."""
        self._count += 1
        self._bytes += chunk.size_bytes
        self._min = min(chunk.size_bytes, self._min or chunk.size_bytes)
        self._max = max(chunk.size_bytes, self._max)
        if chunk.stored_bytes:
            self._new_count += 1
            self._new += chunk.size_bytes
            self._stored += chunk.stored_bytes
        self._progress(Tally(self._bytes, self._members.total()))

    def content(self, sidecars: Sidecars) -> Content:
        """The sums."""
        return Content(
            members=dict(self._members),
            bytes=Sizes(tar=self._bytes, content=self._content_bytes, new=self._new, stored=self._stored),
            chunks=Chunks(count=self._count, new=self._new_count, min=self._min or 0, max=self._max),
            sidecars=sidecars,
        )
