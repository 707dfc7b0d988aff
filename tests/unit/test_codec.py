"""Chunks as stored: what is read back is what was stored, or an error that names the object."""

from __future__ import annotations

import hmac
import random
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import count

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.errors import ObjectDamaged
from backupd.repository.encryption import age, agefile
from backupd.repository.encryption.encryption import Encryption
from backupd.repository.encryption.sealed import SealedCodec
from backupd.repository.stream import codec
from backupd.repository.stream.codec import CHUNK_LIMIT_BYTES, Codec
from backupd.repository.stream.padding import after_padding, padding_frame, padme

KEY = "chunks/ab/key.zst"
CODEC = Codec()
SECRET, PUBLIC = age.new_identity()
ID_KEY = bytes(range(32))
SEALED_BY = Encryption("memory", [PUBLIC], ID_KEY, age.identities(SECRET.encode(), name="test"))
SEALED = SealedCodec(SEALED_BY)
WRITING_BY = Encryption("memory", [PUBLIC], ID_KEY, [])
WRITING = SealedCodec(WRITING_BY)
SSH_PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK5QfQ0ZhJQyIYKvjmqHYR3mIGWx438vRyxyE4q8P2Y9"
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


def _flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


def _faulty(function: Callable[..., bytes], at: int) -> Callable[..., bytes]:
    """The function, but for its call of that number, which gets one bit wrong."""
    calls = count()

    def called(*given: object, **named: object) -> bytes:
        result = function(*given, **named)
        return _flipped(result) if next(calls) == at else result

    return called


def _cut_wrong(content: memoryview, size: int) -> Iterator[tuple[bytes, bool]]:
    """One piece: what is to be encrypted with a bit flipped, what was encrypted as it is."""
    yield (_flipped(bytes(content)) if size == agefile.PIECE_BYTES else bytes(content)), True


@pytest.mark.parametrize("writer", [SEALED, WRITING], ids=["identity", "author"])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("_exchange", 0),
        ("_wrap_key", 0),
        ("_hkdf", 0),  # the key that wraps the file key
        ("_hkdf", 1),  # the key of the MAC
        ("_hkdf", 2),  # the key of the payload
        ("_mac", 0),
        ("_base64", 0),  # the share
        ("_base64", 1),  # the wrapped file key
        ("_piece_nonce", 0),
        ("_cut", 0),  # the content
    ],
)
def test_a_ciphers_fault_is_never_stored(
    monkeypatch: pytest.MonkeyPatch, name: str, call: int, writer: SealedCodec
) -> None:
    """R5: with an identity and without one, wherever a bit flips while an age file is made."""
    writer.encode(b"some content")
    faulty = _cut_wrong if name == "_cut" else _faulty(getattr(agefile, name), call)
    monkeypatch.setattr(agefile, name, faulty)
    with pytest.raises(ObjectDamaged, match="does not decrypt"):
        writer.encode(b"some content")


@pytest.mark.parametrize("writer", [SEALED, WRITING], ids=["identity", "author"])
def test_a_share_that_is_not_that_of_its_secret_is_never_stored(
    monkeypatch: pytest.MonkeyPatch, writer: SealedCodec
) -> None:
    """R5: the file key would be wrapped as it should be, and nobody could ever unwrap it."""
    generate = X25519PrivateKey.generate

    class Faulty:
        def __init__(self) -> None:
            own, other = generate(), generate()
            self.exchange, self.private_bytes_raw = own.exchange, own.private_bytes_raw
            self.public_key = other.public_key

    class Keys:
        generate = Faulty
        from_private_bytes = X25519PrivateKey.from_private_bytes

    monkeypatch.setattr(agefile, "X25519PrivateKey", Keys)
    monkeypatch.setattr(agefile, "_exchange", lambda key, public: key.exchange(public))
    with pytest.raises(ObjectDamaged, match="does not decrypt"):
        writer.encode(b"some content")


def _cut_short(content: bytes, to: list[age.Recipient]) -> tuple[bytes, None]:
    return bytes(_ENCRYPT(content, to)[0][:-1]), None


def _one_recipient_more(content: bytes, to: list[age.Recipient]) -> tuple[bytes, None]:
    return bytes(_ENCRYPT(content, [*to, age.recipient(age.new_identity()[1])])[0]), None


@pytest.mark.parametrize("fault", [_cut_short, _one_recipient_more])
def test_without_an_author_the_form_is_checked(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[..., tuple[bytes, None]]
) -> None:
    """R5: to a key of ssh, and with no identity: as much as the form of the file shows."""
    writer = SealedCodec(Encryption("memory", [PUBLIC, SSH_PUBLIC], ID_KEY, []))
    writer.encode(b"some content")
    monkeypatch.setattr(age, "encrypt", fault)
    with pytest.raises(ObjectDamaged, match="does not decrypt"):
        writer.encode(b"some content")


@pytest.mark.parametrize("by", [SEALED_BY, WRITING_BY], ids=["identity", "author"])
def test_a_ciphers_fault_in_a_stream_is_never_stored(monkeypatch: pytest.MonkeyPatch, by: Encryption) -> None:
    """R5: the index is decrypted and compared as well."""
    encrypt = age.encrypt_stream

    def faulty(source: BytesIO, out: BytesIO, to: list[age.Recipient]) -> age.Identity | None:
        return encrypt(BytesIO(source.read().replace(b"some", b"same")), out, to)

    by.encrypt_stream(BytesIO(b"some content"), BytesIO())
    monkeypatch.setattr(age, "encrypt_stream", faulty)
    with pytest.raises(ObjectDamaged, match="does not decrypt"):
        by.encrypt_stream(BytesIO(b"some content"), BytesIO())


@pytest.mark.parametrize("first", [0, 3])
def test_only_a_skippable_frame_is_padding(first: int) -> None:
    """I15: of the one kind that the format names, whatever follows."""
    frame = bytearray(padding_frame(50))
    assert after_padding(bytes(frame) + b"rest") == b"rest"
    frame[first] ^= 0x01
    assert after_padding(bytes(frame) + b"rest") is None


def test_a_machine_that_cannot_decrypt_does_not_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """R5: who has no identity tries the cipher on a key of its own before the first write."""
    monkeypatch.setattr(agefile, "_pieces", lambda *_: iter([b"wrong"]))
    Encryption("memory", [SSH_PUBLIC], ID_KEY, [])
    with pytest.raises(ObjectDamaged, match="does not decrypt"):
        Encryption("memory", [PUBLIC], ID_KEY, [])
    monkeypatch.setattr(age, "decrypt", lambda *_: b"wrong")
    with pytest.raises(ObjectDamaged, match="does not decrypt"):
        Encryption("memory", [SSH_PUBLIC], ID_KEY, [])


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
