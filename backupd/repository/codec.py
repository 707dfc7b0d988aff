"""Chunks as stored: one zstd frame each, named by the SHA-256 of its content (docs/FORMAT.md, "Chunks")."""

from __future__ import annotations

import hashlib
import sys
import threading

from backupd.errors import ObjectDamaged
from backupd.storage.base import Buffer

__all__ = ["CHUNK_LIMIT_BYTES", "FRAME_LIMIT_BYTES", "chunk_id", "chunk_key", "decode", "encode", "zstd"]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK_LIMIT_BYTES = 8 * 1024 * 1024
FRAME_LIMIT_BYTES = CHUNK_LIMIT_BYTES + CHUNK_LIMIT_BYTES // 128
"""No frame of a chunk is larger: zstd adds less than 1 % to what it cannot compress."""

_LEVEL = 3
_local = threading.local()


def chunk_id(data: Buffer) -> str:
    """The id of a chunk of this content."""
    return hashlib.sha256(data).hexdigest()


def chunk_key(chunk: str) -> str:
    """Where a chunk of this id is stored."""
    return f"chunks/{chunk[:2]}/{chunk}.zst"


def encode(data: Buffer) -> bytes:
    """The frame that holds `data`, decoded and compared, so that no fault of a compressor is stored."""
    frame: bytes = _compressor().compress(data, mode=zstd.ZstdCompressor.FLUSH_FRAME)
    # Comparing bytes with a memoryview goes item by item; the copy and memcmp are ten times as fast.
    if zstd.decompress(frame) != bytes(data):
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


def content_size(frame_head: bytes, *, key: str) -> int:
    """How many bytes the frame that begins with `frame_head` says it holds; or `ObjectDamaged`."""
    try:
        size = zstd.get_frame_info(frame_head).decompressed_size
    except zstd.ZstdError as error:
        raise ObjectDamaged(f"{key} is damaged: not a zstd frame", hint=_DAMAGED_HINT) from error
    if size is None or size > CHUNK_LIMIT_BYTES:
        raise ObjectDamaged(f"{key} is damaged: states a size of {size} bytes", hint=_DAMAGED_HINT)
    return size


_DAMAGED_HINT = "restore an earlier snapshot, or bring this object back from a copy of the repository"


def _decompress(frame: bytes, key: str) -> bytes:
    size = content_size(frame, key=key)
    try:
        if zstd.get_frame_size(frame) != len(frame):
            raise ObjectDamaged(f"{key} is damaged: bytes after the frame", hint=_DAMAGED_HINT)
        content = zstd.decompress(frame)
    except zstd.ZstdError as error:
        raise ObjectDamaged(f"{key} is damaged: {error}", hint=_DAMAGED_HINT) from error
    if len(content) != size:
        raise ObjectDamaged(f"{key} is damaged: {len(content)} bytes instead of {size}", hint=_DAMAGED_HINT)
    return content


def _compressor() -> zstd.ZstdCompressor:
    """This thread's compressor: they are not safe to share, and dear to make."""
    compressor: zstd.ZstdCompressor | None = getattr(_local, "compressor", None)
    if compressor is None:
        parameter = zstd.CompressionParameter
        options = {int(parameter.compression_level): _LEVEL, int(parameter.checksum_flag): 1}
        compressor = _local.compressor = zstd.ZstdCompressor(options=options)
    return compressor
