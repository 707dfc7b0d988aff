"""Chunks as stored: what is read back is what was stored, or an error that names the object."""

from __future__ import annotations

import hmac
import random
from collections.abc import Callable
from io import BytesIO

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.errors import ObjectDamaged
from backupd.repository import age, codec
from backupd.repository.codec import CHUNK_LIMIT_BYTES, Codec
from backupd.repository.encryption import Encryption
from backupd.repository.padding import after_padding, padding_frame, padme
from backupd.repository.sealed import SealedCodec

KEY = "chunks/ab/key.zst"
CODEC = Codec()
SECRET, PUBLIC = age.new_identity()
ID_KEY = bytes(range(32))
SEALED_BY = Encryption("memory", [PUBLIC], ID_KEY, age.identities(SECRET.encode(), name="test"))
SEALED = SealedCodec(SEALED_BY)
WRITING = SealedCodec(Encryption("memory", [PUBLIC], ID_KEY, []))
_ENCRYPT = age.encrypt
encode = CODEC.encode


@given(st.binary(min_size=1, max_size=100_000))
def test_decoding_returns_what_was_encoded(data: bytes) -> None:
    """Any bytes, under any kind of view."""
    assert CODEC.decode(encode(memoryview(data)), chunk=CODEC.identify(data), key=KEY) == data


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=100_000))
def test_decoding_returns_what_was_sealed(data: bytes) -> None:
    """Any bytes; whoever writes without an identity makes what the identity opens."""
    for writer in (SEALED, WRITING):
        sealed = writer.encode(memoryview(data))
        assert SEALED.decode(sealed, chunk=writer.identify(memoryview(data)), key=KEY) == data
        assert len(sealed) <= SEALED.limit_bytes


@given(st.binary(max_size=10_000))
def test_sealed_ids_are_keyed_hashes(data: bytes) -> None:
    """HMAC-SHA256 under a key derived from the id_key, as docs/FORMAT.md has it."""
    keyed = hmac.digest(hmac.digest(ID_KEY, b"backupd chunk", "sha256"), data, "sha256").hex()
    assert SEALED.identify(data) == WRITING.identify(memoryview(data)) == keyed


def test_the_largest_chunk_of_noise_fits_into_the_limit() -> None:
    """With padding, and an age file's own bytes."""
    noise = random.Random(1).randbytes(CHUNK_LIMIT_BYTES)
    sealed = SEALED.encode(noise)
    assert len(sealed) <= SEALED.limit_bytes
    assert SEALED.decode(sealed, chunk=SEALED.identify(noise), key=KEY) == noise


@given(st.integers(0, 20 * 1024 * 1024))
def test_padding_hides_a_size_among_others(size: int) -> None:
    """Never less, at most 12 % more, and few sizes that can occur."""
    padded = size + len(padding_frame(size))
    assert size + 8 <= padded <= (size + 8) * 1.12 + 1
    assert padme(padded) == padded


def test_sealed_frames_are_zstd_for_everybody() -> None:
    """What is in the age file is what the zstd command decompresses, padding and all."""
    sealed = SEALED.encode(b"some content")
    inside = age.decrypt(sealed, age.identities(SECRET.encode(), name="test"))
    with zstandard.ZstdDecompressor().stream_reader(inside + inside, read_across_frames=True) as stream:
        assert stream.read() == b"some content" * 2


def _another_content(content: bytes, to: list[age.Recipient]) -> bytes:
    return _ENCRYPT(bytes([content[0] ^ 1]) + content[1:], to)


def _cut_short(content: bytes, to: list[age.Recipient]) -> bytes:
    return _ENCRYPT(content, to)[:-1]


def _one_recipient_more(content: bytes, to: list[age.Recipient]) -> bytes:
    return _ENCRYPT(content, [*to, age.recipient(age.new_identity()[1])])


@pytest.mark.parametrize(
    ("fault", "writer"),
    [
        (_another_content, SEALED),
        (_cut_short, SEALED),
        (_cut_short, WRITING),
        (_one_recipient_more, WRITING),
    ],
)
def test_a_ciphers_fault_is_never_stored(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[..., bytes], writer: SealedCodec
) -> None:
    """R5: with an identity what is in it is compared; without one, as much as the form of the file shows."""
    monkeypatch.setattr(age, "encrypt", fault)
    with pytest.raises(ObjectDamaged, match="does not decrypt"):
        writer.encode(b"some content")


def test_a_ciphers_fault_in_a_stream_is_never_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """R5: the index is decrypted and compared as well."""
    encrypt = age.encrypt_stream

    def faulty(source: BytesIO, out: BytesIO, to: list[age.Recipient]) -> None:
        encrypt(BytesIO(source.read().replace(b"some", b"same")), out, to)

    SEALED_BY.encrypt_stream(BytesIO(b"some content"), BytesIO())
    monkeypatch.setattr(age, "encrypt_stream", faulty)
    with pytest.raises(ObjectDamaged, match="does not decrypt"):
        SEALED_BY.encrypt_stream(BytesIO(b"some content"), BytesIO())


@pytest.mark.parametrize("first", [0, 3])
def test_only_a_skippable_frame_is_padding(first: int) -> None:
    """I15: of the one kind that the format names, whatever follows."""
    frame = bytearray(padding_frame(50))
    assert after_padding(bytes(frame) + b"rest") == b"rest"
    frame[first] ^= 0x01
    assert after_padding(bytes(frame) + b"rest") is None


def test_a_machine_that_cannot_decrypt_does_not_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """R5: who has no identity tries the cipher on a key of its own before the first write."""
    monkeypatch.setattr(age, "decrypt", lambda *_: b"wrong")
    with pytest.raises(ObjectDamaged, match="does not decrypt"):
        Encryption("memory", [PUBLIC], ID_KEY, [])


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
