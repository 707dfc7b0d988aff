"""The chunks of a repository, each stored once under the hash of its content."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

from backupd.errors import ObjectDamaged, ObjectNotFound
from backupd.repository.codec import FRAME_LIMIT_BYTES, Codec
from backupd.storage.base import CORES, Buffer, Storage

_KEY = re.compile(r"chunks/([0-9a-f]{2})/(\1[0-9a-f]{62})\.zst")


@dataclass(frozen=True)
class StoredChunk:
    """A chunk that the storage has: key, size, and how many bytes storing it took (0: it was there)."""

    key: str
    size_bytes: int
    stored_bytes: int


def chunk_of(key: str) -> str | None:
    """The id of the chunk that is stored under `key`; None if no chunk can be."""
    match = _KEY.fullmatch(key)
    return match[2] if match else None


class ChunkStore:
    """Reads and stores chunks; any thread may use it."""

    def __init__(self, storage: Storage, codec: Codec) -> None:
        self._storage = storage
        self._codec = codec
        # Threads that wait for the storage are many; of those that compute, more than cores only take memory.
        self._computing = threading.BoundedSemaphore(CORES)
        self.concurrency = max(storage.concurrency, CORES)

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
        """The content of the chunk under `key`; `ObjectDamaged` where it is missing or anything else."""
        chunk = chunk_of(key)
        if chunk is None:
            raise ObjectDamaged(f"{key} is no chunk")
        try:
            frame = self._storage.get(key, limit_bytes=FRAME_LIMIT_BYTES)
        except ObjectNotFound as error:
            raise ObjectDamaged(f"chunk {key} is missing") from error
        return self._codec.decode(frame, chunk=chunk, key=key)

    def _encoded(self, data: Buffer) -> tuple[str, bytes | None]:
        """The key of this content, and its frame unless the storage has it."""
        with self._computing:
            chunk = self._codec.identify(data)
        key = f"chunks/{chunk[:2]}/{chunk}{self._codec.suffix}"
        if self._storage.exists(key):
            return key, None
        with self._computing:
            return key, self._codec.encode(data)
