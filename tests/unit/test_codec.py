"""Chunks as stored: what is read back is what was stored, or an error that names the object."""

from __future__ import annotations

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import ObjectDamaged
from backupd.repository import codec
from backupd.repository.codec import CHUNK_LIMIT_BYTES, Codec

KEY = "chunks/ab/key.zst"
CODEC = Codec()
encode = CODEC.encode


@given(st.binary(min_size=1, max_size=100_000))
def test_decoding_returns_what_was_encoded(data: bytes) -> None:
    """Any bytes, under any kind of view."""
    assert CODEC.decode(encode(memoryview(data)), chunk=CODEC.identify(data), key=KEY) == data


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
    assert _decoded_or_error(bytes(frame), CODEC.identify(data)) in (data, KEY)


def _decoded_or_error(frame: bytes, chunk: str) -> bytes | str:
    try:
        return CODEC.decode(frame, chunk=chunk, key=KEY)
    except ObjectDamaged as error:
        return KEY if KEY in error.message else error.message


def test_another_chunks_frame_is_refused() -> None:
    """A whole and healthy frame under the wrong name."""
    with pytest.raises(ObjectDamaged, match="another hash"):
        CODEC.decode(encode(b"one"), chunk=CODEC.identify(b"two"), key=KEY)


@pytest.mark.parametrize("extra", [b"\0", encode(b"one")])
def test_bytes_after_the_frame_are_refused(extra: bytes) -> None:
    """I15: one frame and nothing else."""
    with pytest.raises(ObjectDamaged, match="is damaged"):
        CODEC.decode(encode(b"one") + extra, chunk=CODEC.identify(b"one"), key=KEY)


def test_a_frame_that_states_too_large_a_size_is_not_decompressed() -> None:
    """I15: a compression bomb costs no memory."""
    bomb = zstandard.compress(bytes(CHUNK_LIMIT_BYTES + 1))
    with pytest.raises(ObjectDamaged, match="size"):
        CODEC.decode(bomb, chunk="0" * 64, key=KEY)


def test_a_compressors_fault_is_never_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """R5: what does not decompress to what went in is an error before anything is stored."""
    right = zstandard.compress(b"another content")

    class Faulty:
        def compress(self, data: object) -> bytes:
            return right

    monkeypatch.setattr(codec.zstandard, "ZstdCompressor", lambda **_: Faulty())
    with pytest.raises(ObjectDamaged, match="does not decompress"):
        Codec().encode(b"some content")
