"""The chunks of a repository: each named by its content, and a slice of a pack."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backupd.errors import ObjectDamaged, ObjectNotFound, StorageError
from backupd.repository.cache import Cache
from backupd.repository.lists import learn
from backupd.repository.slices import Slice
from backupd.repository.stream.codec import Codec
from backupd.storage.base import CORES, Buffer, Storage

_COMPUTING = threading.BoundedSemaphore(CORES)
"""However many streams are read at once: who computes holds copies of a chunk, and more gain nothing."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chunk of a stream: its id and size, and where it lies or, if nobody knows, what is to be stored."""

    chunk: str
    size_bytes: int
    known: Slice | None
    frame: Buffer | None


class ChunkStore:
    """Reads chunks; any thread may use it."""

    def __init__(self, storage: Storage, codec: Codec, cache: Cache) -> None:
        self._storage = storage
        self._codec = codec
        self._cache = cache
        self._learning = threading.Lock()
        self._learned = False
        self.concurrency = storage.concurrency

    @property
    def limit_bytes(self) -> int:
        """No slice is longer."""
        return self._codec.limit_bytes

    def prepare(self, data: Buffer, find: Callable[[str], Slice | None]) -> Prepared:
        """What it takes to store this content: its frame, unless `find` knows where it lies."""
        with _COMPUTING:
            chunk = self._codec.identify(data)
            known = find(chunk)
            return Prepared(chunk, len(data), known, None if known else self._codec.encode(data))

    def load(self, wanted: Slice) -> bytes:
        """The content of a chunk, from this slice or from another one of the same chunk.

        `ObjectDamaged`, about `wanted`, where it is missing or anything else and no other pack has it.
        """
        try:
            return self.load_only(wanted)
        except (ObjectDamaged, StorageError):
            for other in self.others(wanted):
                try:
                    return self.load_only(other)
                except (ObjectDamaged, StorageError):
                    continue
            raise

    def load_only(self, wanted: Slice) -> bytes:
        """The content of the chunk in this very slice; see `load`."""
        if wanted.length > self.limit_bytes:
            raise ObjectDamaged(f"{wanted} is longer than a chunk can be")
        try:
            frame = self._storage.get_range(wanted.pack, wanted.offset, wanted.length)
        except ObjectNotFound as error:
            raise ObjectDamaged(f"pack {wanted.pack} is missing") from error
        return self.decode(frame, wanted)

    def decode(self, frame: Buffer, at: Slice) -> bytes:
        """The content of a chunk whose slice was read; `ObjectDamaged` if it is not that."""
        return self._codec.decode(frame, chunk=at.chunk, key=str(at))

    def others(self, known: Slice) -> Iterator[Slice]:
        """The slices of the same chunk in other packs, as slice lists name them; they may be gone."""
        with self._learning:
            if not self._learned:
                learn(self._storage, self._cache)
                self._learned = True
        return iter([each for each in self._cache.slices(known.chunk) if each.pack != known.pack])
