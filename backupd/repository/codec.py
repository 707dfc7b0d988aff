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

LEVEL = 3
_local = threading.local()


def chunk_id(data: Buffer) -> str:
    """The id of a chunk of this content."""
    return hashlib.sha256(data).hexdigest()


def chunk_key(chunk: str) -> str:
    """Where a chunk of this id is stored."""
    return f"chunks/{chunk[:2]}/{chunk}.zst"


def encode(data: Buffer) -> bytes:
    """The frame that holds `data`, decoded and compared, so that no fault of a compressor is stored."""
    frame = _compressor().compress(data)
    # Comparing bytes with a memoryview goes item by item; the copy and memcmp are ten times as fast.
    if _decompressor().decompress(frame) != bytes(data):
        raise ObjectDamaged(
            "a compressed chunk does not decompress to what it was made of",
            hint="suspect this machine's memory or processor; nothing of this chunk was stored",
        )
    return frame


def decode(frame: bytes, *, key: str) -> bytes:
    """The content of the chunk stored under `key`; `ObjectDamaged` unless it is what the key promises."""
    content = _decompress(frame, key)
    if chunk_key(chunk_id(content)) != key:
        raise ObjectDamaged(f"{key} is damaged: its content has another hash", hint=_DAMAGED_HINT)
    return content


_DAMAGED_HINT = "restore an earlier snapshot, or bring this object back from a copy of the repository"


def _decompress(frame: bytes, key: str) -> bytes:
    try:
        size = zstandard.get_frame_parameters(frame).content_size
        if size > CHUNK_LIMIT_BYTES:  # as is the number that says that no size is stated
            raise ObjectDamaged(f"{key} is damaged: it states no size that a chunk has", hint=_DAMAGED_HINT)
        return _decompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ObjectDamaged(f"{key} is damaged: {error}", hint=_DAMAGED_HINT) from error


def _compressor() -> zstandard.ZstdCompressor:
    """This thread's compressor: they are not safe to share, and dear to make."""
    compressor: zstandard.ZstdCompressor | None = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = _local.compressor = zstandard.ZstdCompressor(
            level=LEVEL, write_checksum=True, write_content_size=True
        )
    return compressor


def _decompressor() -> zstandard.ZstdDecompressor:
    """This thread's decompressor."""
    decompressor: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    return decompressor
