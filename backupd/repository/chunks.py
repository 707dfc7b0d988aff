"""The chunks of a repository, each stored once under the hash of its content."""

from __future__ import annotations

import re
from dataclasses import dataclass

from backupd.errors import ObjectDamaged, ObjectNotFound
from backupd.repository.codec import Codec
from backupd.storage.base import Buffer, Storage

_KEY = re.compile(r"chunks/([0-9a-f]{2})/(\1[0-9a-f]{62})\.zst(?:\.age)?")


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

    def store(self, data: Buffer) -> StoredChunk:
        """Have the storage hold this content; whether durably, its `flush` will tell."""
        chunk = self._codec.identify(data)
        key = f"chunks/{chunk[:2]}/{chunk}{self._codec.suffix}"
        if self._storage.exists(key):
            return StoredChunk(key, len(data), 0)
        frame = self._codec.encode(data)
        return StoredChunk(key, len(data), len(frame) if self._storage.put(key, frame) else 0)

    def load(self, key: str) -> bytes:
        """The content of the chunk under `key`; `ObjectDamaged` where it is missing or anything else."""
        chunk = chunk_of(key)
        if chunk is None:
            raise ObjectDamaged(f"{key} is no chunk")
        try:
            frame = self._storage.get(key, limit_bytes=self._codec.limit_bytes)
        except ObjectNotFound as error:
            raise ObjectDamaged(f"chunk {key} is missing") from error
        return self._codec.decode(frame, chunk=chunk, key=key)
