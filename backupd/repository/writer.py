"""Writing one snapshot, the manifest last (docs/FORMAT.md, "Order of writing")."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from backupd.errors import Interrupted, ObjectDamaged, ObjectNotFound, RepositoryError, StorageError
from backupd.progress import Progress, Tally
from backupd.repository.cache import Cache
from backupd.repository.chunks import ChunkStore
from backupd.repository.encryption.encryption import Encryption
from backupd.repository.gc.absent import LOST, Absent
from backupd.repository.gc.sessions import OwnSession, end, fenced, put_own
from backupd.repository.known import Known
from backupd.repository.packer import Packer
from backupd.repository.reader import SnapshotReader
from backupd.repository.sidecar import SidecarWriter
from backupd.repository.stream import index
from backupd.repository.stream.chunker import Cutter, require_native
from backupd.repository.stream.pipeline import Pipeline, Source
from backupd.repository.stream.walk import Listing
from backupd.snapshot import Chunks, Manifest, Sidecars, Sizes, index_key, prefix
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
        self,
        storage: Storage,
        chunks: ChunkStore,
        cache: Cache,
        encryption: Encryption | None,
        *,
        host: str,
        volume: str,
        snapshot: str,
    ) -> None:
        require_native()
        self._encryption = encryption
        self._storage = storage
        self._chunks = chunks
        self._cache = cache
        self._stem = f"{prefix(host, volume)}{snapshot}"
        self._session = OwnSession(storage, f"{host}/{volume}/{snapshot}")
        self._known: Known | None = None
        self._doubtful = False

    def __enter__(self) -> SnapshotWriter:
        self._session.begin()
        # Only now: a collector that has not seen the session has put its set before it began.
        self._known = Known.learned(self._storage, self._cache, Absent.load(self._storage))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._known is not None:
            self._known.close()
        if self._doubtful:  # collectors must go on waiting for it, or find out themselves what became of it
            return
        # A session that failed has ended too; where the storage fails, the first error is the one to tell.
        with contextlib.suppress(StorageError, Interrupted) if error else contextlib.nullcontext():
            end(self._storage, self._session.name)

    def store(
        self,
        source: Source,
        *,
        concealed: Mapping[str, str] | None = None,
        at_end: Callable[[], None],
        progress: Progress,
        cancel: threading.Event,
        readers: int = 1,
    ) -> Content:
        """Store the chunks and sidecars of a tar stream, durably; `at_end`, `cancel`: see `Pipeline.run`.

        `readers` is how many streams this process reads at once: the more, the less memory each takes.

        `concealed` is kept where only an identity reads it; for a repository that is not encrypted there is
        no such place, and it must be empty.
        """
        known = self._known
        assert known is not None  # noqa: S101  the context was entered
        with SidecarWriter() as slices, SidecarWriter(self._encryption) as members:
            if self._encryption:
                members.add(index.encode_concealed(concealed or {}))
            tally = _Tally(progress, members)
            prepare = partial(self._chunks.prepare, find=known.find)
            pipeline = Pipeline(prepare, Cutter(tally.listed), readers=readers)
            with Packer(self._storage, known, self._session.name, readers=readers) as packer:
                for chunk in pipeline.run(source, at_end=at_end, cancel=cancel):
                    at, stored_bytes = packer.add(chunk)
                    slices.add(at.line())
                    tally.chunk(chunk.size_bytes, stored_bytes)
                    self._session.renew()
                packer.finish()
            sidecars = Sidecars(
                chunks=slices.put(self._storage, f"{self._stem}.chunks.zst"),
                index=members.put(self._storage, index_key(self._stem, encrypted=bool(self._encryption))),
            )
        self._storage.flush()
        return tally.content(sidecars)

    def commit(self, manifest: Manifest) -> None:
        """Make the snapshot exist. Everything the manifest names must have been stored by `store`.

        Where collectors have ceased to wait for this writer, the snapshot is withdrawn, with
        `RepositoryError`, unless all its chunks are there to stay.
        """
        data = manifest.encode()
        if self._encryption:
            data = self._encryption.sign("manifest", data)
        self._doubtful = True
        put_own(self._storage, manifest.key, data)
        self._storage.flush()
        if fenced(self._storage, self._session.name) and (why := self._loss(manifest)):
            self._storage.delete(manifest.key)
            self._storage.flush()
            self._doubtful = False
            raise RepositoryError(
                f"snapshot {manifest.snapshot} is withdrawn: nothing was heard of this run for a day, "
                f"so a prune went on without it; {why}",
                hint="run the backup again; was this machine asleep?",
            )
        self._doubtful = False

    def _loss(self, manifest: Manifest) -> str | None:
        """What of the snapshot is gone, or condemned; what is condemned later, collectors find named."""
        lost = Absent.load(self._storage, LOST)
        reader = SnapshotReader(self._storage, self._chunks, self._encryption, manifest)
        if not self._storage.exists(manifest.index_key):
            return f"{manifest.index_key} is gone"
        try:
            packs = {each.pack for each in reader.slices()}
        except (ObjectNotFound, ObjectDamaged) as error:
            return error.message
        gone = (pack for pack in sorted(packs) if pack in lost or not self._storage.exists(pack))
        return next((f"pack {pack} is gone" for pack in gone), None)


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

    def chunk(self, size_bytes: int, stored_bytes: int) -> None:
        """Note one chunk; it was there already if storing it took no bytes."""
        self._count += 1
        self._bytes += size_bytes
        self._min = min(size_bytes, self._min or size_bytes)
        self._max = max(size_bytes, self._max)
        if stored_bytes:
            self._new_count += 1
            self._new += size_bytes
            self._stored += stored_bytes
        self._progress(Tally(self._bytes, self._members.total()))

    def content(self, sidecars: Sidecars) -> Content:
        """The sums."""
        return Content(
            members=dict(self._members),
            bytes=Sizes(tar=self._bytes, content=self._content_bytes, new=self._new, stored=self._stored),
            chunks=Chunks(count=self._count, new=self._new_count, min=self._min or 0, max=self._max),
            sidecars=sidecars,
        )
