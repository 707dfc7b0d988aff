"""Chunks as stored: what is read back is what was stored, or an error that names the object."""

from __future__ import annotations

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import ObjectDamaged
from backupd.repository import codec
from backupd.repository.codec import CHUNK_LIMIT_BYTES, chunk_id, chunk_key, decode, encode


@given(st.binary(min_size=1, max_size=100_000))
def test_decoding_returns_what_was_encoded(data: bytes) -> None:
    """Any bytes, under any kind of view."""
    assert decode(encode(memoryview(data)), key=chunk_key(chunk_id(data))) == data


def test_a_frame_states_its_size_and_has_a_checksum() -> None:
    """The shell recipe's zstd checks what it decompresses."""
    frame = encode(b"x" * 1000)
    parameters = zstandard.get_frame_parameters(frame)
    assert (parameters.content_size, parameters.has_checksum) == (1000, True)


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_an_error_that_names_the_object(position: float, bit: int) -> None:
    """R4: never wrong bytes."""
    data = b"some content " * 500
    frame = bytearray(encode(data))
    frame[int(position * len(frame))] ^= 1 << bit
    key = chunk_key(chunk_id(data))
    assert _decoded_or_error(bytes(frame), key) in (data, key)


def _decoded_or_error(frame: bytes, key: str) -> bytes | str:
    try:
        return decode(frame, key=key)
    except ObjectDamaged as error:
        return key if key in error.message else error.message


def test_another_chunks_frame_is_refused() -> None:
    """A whole and healthy frame under the wrong name."""
    with pytest.raises(ObjectDamaged, match="another hash"):
        decode(encode(b"one"), key=chunk_key(chunk_id(b"two")))


@pytest.mark.parametrize("extra", [b"\0", encode(b"one")])
def test_bytes_after_the_frame_are_refused(extra: bytes) -> None:
    """I15: one frame and nothing else."""
    with pytest.raises(ObjectDamaged, match="is damaged"):
        decode(encode(b"one") + extra, key=chunk_key(chunk_id(b"one")))


def test_a_frame_that_states_too_large_a_size_is_not_decompressed() -> None:
    """I15: a compression bomb costs no memory."""
    bomb = zstandard.compress(bytes(CHUNK_LIMIT_BYTES + 1))
    with pytest.raises(ObjectDamaged, match="size"):
        decode(bomb, key=chunk_key("0" * 64))


def test_a_compressors_fault_is_never_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """R5: what does not decompress to what went in is an error before anything is stored."""
    right = zstandard.compress(b"another content")

    class Faulty:
        def compress(self, data: object) -> bytes:
            return right

    monkeypatch.setattr(codec, "_compressor", Faulty)
    with pytest.raises(ObjectDamaged, match="does not decompress"):
        encode(b"some content")
