"""The chunks of a repository, each stored once under the hash of its content."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backupd.errors import ObjectDamaged, ObjectNotFound, StorageError
from backupd.repository.encryption.chunkkeys import chunk_of, stem_of
from backupd.repository.gc.condemned import Condemned
from backupd.repository.known import Known
from backupd.repository.stream.codec import Codec
from backupd.storage.base import CORES, Buffer, Storage


@dataclass(frozen=True)
class StoredChunk:
    """A chunk that the storage has: key, size, and how many bytes storing it took (0: it was there)."""

    key: str
    size_bytes: int
    stored_bytes: int


class ChunkStore:
    """Reads and stores chunks; any thread may use it."""

    def __init__(
        self,
        storage: Storage,
        codec: Codec,
        condemned: Condemned | None = None,
        known: Known | None = None,
    ) -> None:
        self._storage = storage
        self._codec = codec
        self._condemned = condemned or Condemned()
        self._known = known
        # Threads that wait for the storage are many; of those that compute, more than cores only take memory.
        self._computing = threading.BoundedSemaphore(CORES)
        self.concurrency = max(storage.concurrency, CORES)

    @property
    def limit_bytes(self) -> int:
        """No stored chunk is larger."""
        return self._codec.limit_bytes

    def avoiding(self, condemned: Condemned, known: Known | None) -> ChunkStore:
        """The same chunks for a writer: to it condemned keys are absent, and known ones there."""
        return ChunkStore(self._storage, self._codec, condemned, known)

    def store(self, data: Buffer, read: Callable[[], None] = lambda: None) -> StoredChunk:
        """Have the storage hold this content; whether durably, its `flush` will tell.

        `read` is called once, as soon as `data` is needed no more: before the storage is waited for.
        """
        size = len(data)
        try:
            key, frame = self._encoded(data)
        finally:
            read()
        if frame is None:
            return StoredChunk(key, size, 0)
        new = self._storage.put(key, frame)
        if self._known is not None:
            self._known.learn(key)
        return StoredChunk(key, size, len(frame) if new else 0)

    def load(self, key: str) -> bytes:
        """The content of the chunk under `key`, or under another key of the same chunk.

        `ObjectDamaged`, about `key`, where it is missing or anything else and no other key has it.
        """
        try:
            return self.load_only(key)
        except (ObjectDamaged, StorageError):
            for other in self.others(key):
                try:
                    return self.load_only(other)
                except (ObjectDamaged, StorageError):
                    continue
            raise

    def load_only(self, key: str) -> bytes:
        """The content of the chunk under this very key; see `load`."""
        chunk = chunk_of(key)
        if chunk is None:
            raise ObjectDamaged(f"{key} is no chunk")
        try:
            frame = self._storage.get(key, limit_bytes=self._codec.limit_bytes)
        except ObjectNotFound as error:
            raise ObjectDamaged(f"chunk {key} is missing") from error
        return self._codec.decode(frame, chunk=chunk, key=key)

    def present(self, key: str) -> bool:
        """Whether there is an object under `key`, or under another key of the same chunk; it is not read."""
        return self._storage.exists(key) or next(self.others(key), None) is not None

    def others(self, key: str) -> Iterator[str]:
        """The other keys of the same chunk, as the storage lists them."""
        if (chunk := chunk_of(key)) is not None:
            for info in self._storage.list(f"{stem_of(chunk)}."):
                if info.key != key and chunk_of(info.key) == chunk:
                    yield info.key

    def _encoded(self, data: Buffer) -> tuple[str, Buffer | None]:
        """The key of this content, and its frame unless the storage has it."""
        with self._computing:
            chunk = self._codec.identify(data)
        key = self._condemned.key_for(chunk, self._codec.suffix)
        if self._is_there(key):
            return key, None
        with self._computing:
            return key, self._codec.encode(data)

    def _is_there(self, key: str) -> bool:
        if self._known is None:
            return self._storage.exists(key)
        if self._known.has(key):
            return True
        if self._known.complete or not self._storage.exists(key):
            return False
        self._known.learn(key)
        return True
