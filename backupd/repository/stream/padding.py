"""Padding that hides sizes: Padmé (Nikitin et al., PURBs, 2019) in a skippable frame of zstd."""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<II")
_MAGIC = 0x184D2A50


def padme(size: int) -> int:
    """The next size that Padmé allows: at most 12 % more, and 3 % from 100 KB on."""
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-size // step) * step


def padding_frame(size: int) -> bytes:
    """A skippable frame that brings `size` bytes up to a size that Padmé allows."""
    length = padme(size + _HEADER.size) - size - _HEADER.size
    return _HEADER.pack(_MAGIC, length) + bytes(length)


def after_padding(content: bytes) -> memoryview | None:
    """What follows the skippable frame that `content` begins with; None if it does not."""
    if len(content) < _HEADER.size:
        return None
    magic, length = _HEADER.unpack_from(content)
    return memoryview(content)[_HEADER.size + length :] if magic == _MAGIC else None
