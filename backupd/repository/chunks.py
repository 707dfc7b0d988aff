"""The chunks of a repository, each stored once under the hash of its content."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backupd.errors import ObjectDamaged, ObjectNotFound
from backupd.repository.chunkkeys import chunk_of, stem_of
from backupd.repository.codec import Codec
from backupd.repository.condemned import Condemned
from backupd.storage.base import CORES, Buffer, Storage

__all__ = ["ChunkStore", "StoredChunk", "chunk_of"]


@dataclass(frozen=True)
class StoredChunk:
    """A chunk that the storage has: key, size, and how many bytes storing it took (0: it was there)."""

    key: str
    size_bytes: int
    stored_bytes: int


class ChunkStore:
    """Reads and stores chunks; any thread may use it."""

    def __init__(self, storage: Storage, codec: Codec, condemned: Condemned | None = None) -> None:
        self._storage = storage
        self._codec = codec
        self._condemned = condemned or Condemned()
        # Threads that wait for the storage are many; of those that compute, more than cores only take memory.
        self._computing = threading.BoundedSemaphore(CORES)
        self.concurrency = max(storage.concurrency, CORES)

    def avoiding(self, condemned: Condemned) -> ChunkStore:
        """The same chunks for a writer, to whom condemned keys are absent."""
        return ChunkStore(self._storage, self._codec, condemned)

    def store(self, data: Buffer, read: Callable[[], None] = lambda: None) -> StoredChunk:
        """Have the storage hold this content; whether durably, its `flush` will tell.

        `read` is called once, as soon as `data` is needed no more: before the storage is waited for.
        """
        size = len(data)
        try:
            key, frame = self._encoded(data)
        finally:
            read()
        return StoredChunk(key, size, len(frame) if frame and self._storage.put(key, frame) else 0)

    def load(self, key: str) -> bytes:
        """The content of the chunk under `key`, or under another key of the same chunk.

        `ObjectDamaged`, about `key`, where it is missing or anything else and no other key has it.
        """
        chunk = chunk_of(key)
        if chunk is None:
            raise ObjectDamaged(f"{key} is no chunk")
        try:
            return self._read(key, chunk)
        except ObjectDamaged:
            for other in self._others(key, chunk):
                try:
                    return self._read(other, chunk)
                except ObjectDamaged:
                    continue
            raise

    def present(self, key: str) -> bool:
        """Whether there is an object under `key`, or under another key of the same chunk; it is not read."""
        if self._storage.exists(key):
            return True
        chunk = chunk_of(key)
        return chunk is not None and next(self._others(key, chunk), None) is not None

    def _read(self, key: str, chunk: str) -> bytes:
        try:
            frame = self._storage.get(key, limit_bytes=self._codec.limit_bytes)
        except ObjectNotFound as error:
            raise ObjectDamaged(f"chunk {key} is missing") from error
        return self._codec.decode(frame, chunk=chunk, key=key)

    def _encoded(self, data: Buffer) -> tuple[str, bytes | None]:
        """The key of this content, and its frame unless the storage has it."""
        with self._computing:
            chunk = self._codec.identify(data)
        key = self._condemned.key_for(chunk, self._codec.suffix)
        if self._storage.exists(key):
            return key, None
        with self._computing:
            return key, self._codec.encode(data)

    def _others(self, key: str, chunk: str) -> Iterator[str]:
        for info in self._storage.list(f"{stem_of(chunk)}."):
            if info.key != key and chunk_of(info.key) == chunk:
                yield info.key
