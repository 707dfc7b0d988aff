"""Chunks as stored: one zstd frame each, named by the SHA-256 of its content (docs/FORMAT.md, "Chunks")."""

from __future__ import annotations

import hashlib
import threading

import zstandard

from backupd.errors import ObjectDamaged
from backupd.storage.base import Buffer

CHUNK_LIMIT_BYTES = 8 * 1024 * 1024
FRAME_LIMIT_BYTES = CHUNK_LIMIT_BYTES + CHUNK_LIMIT_BYTES // 128
"""No frame of a chunk is larger: zstd adds less than 1 % to what it cannot compress."""

LEVEL = 2
"""Of zstd for chunks: docs/decisions/0006-compression-level.md."""

_DAMAGED_HINT = "restore an earlier snapshot, or bring this object back from a copy of the repository"


class Codec:
    """How a repository names and wraps the content of its chunks; any thread may use it."""

    limit_bytes = FRAME_LIMIT_BYTES
    """No slice is longer."""

    def __init__(self) -> None:
        self._local = _Local()

    def identify(self, data: Buffer) -> str:
        """The id of a chunk of this content."""
        return hashlib.sha256(data).hexdigest()

    def encode(self, data: Buffer) -> Buffer:
        """The frame that holds `data`, decoded and compared, so that no fault of a compressor is stored."""
        frame = self._local.compressor.compress(data)
        # Comparing bytes with a memoryview goes item by item; the copy and memcmp are ten times as fast.
        if self._local.decompressor.decompress(frame) != bytes(data):
            raise ObjectDamaged(
                "a compressed chunk does not decompress to what it was made of",
                hint="suspect this machine's memory or processor; nothing of this chunk was stored",
            )
        return frame

    def decode(self, frame: Buffer, *, chunk: str, key: str) -> bytes:
        """The content of the chunk of id `chunk`, kept under `key`; `ObjectDamaged` if it is not that."""
        content = self._decompress(frame, key)
        if self.identify(content) != chunk:
            raise ObjectDamaged(f"{key} is damaged: its content has another hash", hint=_DAMAGED_HINT)
        return content

    def _decompress(self, frame: Buffer, key: str) -> bytes:
        try:
            size = zstandard.get_frame_parameters(frame).content_size
            if size > CHUNK_LIMIT_BYTES:  # as is the number that says that no size is stated
                raise ObjectDamaged(
                    f"{key} is damaged: it states no size that a chunk has", hint=_DAMAGED_HINT
                )
            return self._local.decompressor.decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ObjectDamaged(f"{key} is damaged: {error}", hint=_DAMAGED_HINT) from error


class _Local(threading.local):
    """This thread's compressor and decompressor: they are not safe to share, and dear to make."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor()
