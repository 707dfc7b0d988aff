"""The chunks of a repository, each stored once under the hash of its content."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

from backupd.errors import ObjectDamaged, ObjectNotFound, StorageError
from backupd.repository.codec import FRAME_LIMIT_BYTES, Codec
from backupd.storage.base import Buffer, Storage

_KEY = re.compile(r"chunks/([0-9a-f]{2})/(\1[0-9a-f]{62})(?:\.[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4})?\.zst")


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
        """The content of the chunk under `key`, or under another key of its id where that one is damaged.

        `ObjectDamaged` where it is missing everywhere or anything else.
        """
        try:
            return self.load_only(key)
        except (ObjectDamaged, StorageError):
            for other in self.others(key):
                with suppress(ObjectDamaged, StorageError):
                    return self.load_only(other)
            raise

    def load_only(self, key: str) -> bytes:
        """The content of the chunk under this very key; see `load`."""
        chunk = chunk_of(key)
        if chunk is None:
            raise ObjectDamaged(f"{key} is no chunk")
        try:
            frame = self._storage.get(key, limit_bytes=FRAME_LIMIT_BYTES)
        except ObjectNotFound as error:
            raise ObjectDamaged(f"chunk {key} is missing") from error
        return self._codec.decode(frame, chunk=chunk, key=key)

    def others(self, key: str) -> list[str]:
        """The other keys under which the content of this chunk may be, as listed."""
        if (chunk := chunk_of(key)) is None:
            return []
        infos = self._storage.list(f"chunks/{chunk[:2]}/{chunk}.")
        return [info.key for info in infos if info.key != key and chunk_of(info.key) == chunk]
