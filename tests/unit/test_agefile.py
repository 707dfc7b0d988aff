"""age files of ours: what age and pyrage make of them, and what nobody may have changed.

The cases have the names that the age project's own test vectors have; the files are made here.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.errors import ConfigError, Undecryptable
from backupd.repository.encryption import age, agefile, bech32

SECRET = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
PUBLIC = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
OURS, OUR_KEY = agefile.Recipient(PUBLIC), agefile.Identity(SECRET)
THEIRS = pyrage.x25519.Recipient.from_str(PUBLIC)
THEIR_KEY = pyrage.x25519.Identity.from_str(SECRET)
OTHER_SECRET, OTHER_PUBLIC = age.new_identity()
PIECE = 64 * 1024
CONTENTS = st.one_of(
    st.binary(max_size=2000),
    st.builds(
        lambda size, byte: bytes([byte]) * size, st.integers(PIECE - 2, 3 * PIECE + 2), st.integers(0, 255)
    ),
    st.sampled_from([PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1]).map(bytes),
)


def to_file(content: bytes, recipients: list[agefile.Recipient]) -> tuple[bytes, agefile.Author]:
    """As a stream."""
    out = BytesIO()
    author = agefile.encrypt_stream(BytesIO(content), out, recipients)
    return out.getvalue(), author


def from_file(sealed: bytes, openers: list[agefile.Opener]) -> bytes:
    """As a stream."""
    out = BytesIO()
    agefile.decrypt_stream(BytesIO(sealed), out, openers)
    return out.getvalue()


@settings(deadline=None)
@given(CONTENTS, st.sampled_from([agefile.encrypt, to_file]))
def test_what_we_encrypt_is_opened_by_all(
    content: bytes, encrypt: Callable[..., tuple[bytes, agefile.Author]]
) -> None:
    """By each recipient and the author, whole and as a stream, by us and by pyrage."""
    sealed, author = encrypt(content, [agefile.Recipient(OTHER_PUBLIC), OURS])
    for opener in (OUR_KEY, agefile.Identity(OTHER_SECRET), author):
        assert agefile.decrypt(sealed, [opener]) == from_file(sealed, [opener]) == content
        assert agefile.holds(sealed, content, [opener])
    for secret in (SECRET, OTHER_SECRET):
        assert pyrage.decrypt(bytes(sealed), [pyrage.x25519.Identity.from_str(secret)]) == content


@settings(deadline=None)
@given(CONTENTS)
def test_what_pyrage_encrypts_we_open(content: bytes) -> None:
    """To several, with the stanza of nobody that it likes to add."""
    sealed = pyrage.encrypt(content, [pyrage.x25519.Recipient.from_str(OTHER_PUBLIC), THEIRS])
    assert agefile.decrypt(sealed, [OUR_KEY]) == from_file(sealed, [OUR_KEY]) == content


@pytest.mark.parametrize(
    "vector", json.loads((Path(__file__).parents[1] / "vectors/by-age.json").read_text())
)
def test_what_age_encrypted_we_open(vector: dict[str, str]) -> None:
    """Files of Debian's age 1.1.1, one to a key of ssh beside ours."""
    sealed = base64.b64decode(vector["object"])
    assert agefile.decrypt(sealed, [OUR_KEY]).decode() == vector["content"]


@pytest.mark.parametrize("encrypt", [agefile.encrypt, to_file])
def test_nothing_is_ever_used_twice(encrypt: Callable[..., tuple[bytes, agefile.Author]]) -> None:
    """File key, share and nonce: of equal contents no two files have a part in common."""
    made = [encrypt(b"same", [OURS, OURS]) for _ in range(20)]
    headers, payloads = zip(*(bytes(sealed).split(b"\n--- ", 1) for sealed, _ in made), strict=True)
    assert len({line for header in headers for line in header.splitlines()[1:]}) == 80
    assert len({payload[-36:-20] for payload in payloads}) == 20
    assert len({author._file_key for _, author in made}) == 20


@dataclass(frozen=True)
class Forger:
    """Makes an age file by the specification, written apart from the code under test, or nearly so."""

    version: bytes = b"age-encryption.org/v1\n"
    kind: bytes = b"X25519"
    file_key: bytes = b"sixteen bytes ab"
    share: bytes | None = None
    before: bytes = b""
    after: bytes = b""
    stanza: Callable[[bytes], bytes] = field(default=lambda text: text)
    mac: Callable[[bytes], bytes] = field(default=lambda line: line)
    mac_label: bytes = b"header"
    wrap_label: bytes = b"age-encryption.org/v1/X25519"
    payload_label: bytes = b"payload"
    nonce: bytes = b"a nonce for once"
    pieces: tuple[tuple[bytes, int, int], ...] = ((b"content", 0, 1),)
    tail: Callable[[bytes], bytes] = field(default=lambda payload: payload)

    def make(self) -> bytes:
        """The file."""
        stanza = self.stanza(self._stanza())
        header = self.version + self.before + stanza + self.after + b"---"
        mac = hmac.digest(hkdf(self.file_key, b"", self.mac_label), header, "sha256")
        cipher = ChaCha20Poly1305(hkdf(self.file_key, self.nonce, self.payload_label))
        payload = b"".join(
            cipher.encrypt(number.to_bytes(11, "big") + bytes([last]), piece, None)
            for piece, number, last in self.pieces
        )
        return header + self.mac(b" " + b64(mac) + b"\n") + self.tail(self.nonce + payload)

    def _stanza(self) -> bytes:
        key = X25519PrivateKey.from_private_bytes(b"\x2a" * 32)
        public = bech32.decode(PUBLIC)[1]
        share, secret = self.share, bytes(32)
        if share is None:
            share = key.public_key().public_bytes_raw()
            secret = key.exchange(X25519PublicKey.from_public_bytes(public))
        wrap_key = hkdf(secret, share + public, self.wrap_label)
        body = ChaCha20Poly1305(wrap_key).encrypt(bytes(12), self.file_key, None)
        return b"-> " + self.kind + b" " + b64(share) + b"\n" + b64(body) + b"\n"


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869, 32 bytes."""
    return hmac.digest(hmac.digest(salt or bytes(32), key, "sha256"), info + b"\x01", "sha256")


def b64(content: bytes) -> bytes:
    """Without padding."""
    return base64.b64encode(content).rstrip(b"=")


def spare_bit(line: bytes) -> bytes:
    """The last character of the text with a bit set that says nothing."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = line.rstrip(b"\n")
    return text[:-1] + alphabet[alphabet.index(text[-1:]) + 1 :][:1] + b"\n"


def lines(change: Callable[[bytes, bytes], bytes]) -> Callable[[bytes], bytes]:
    """What changes a stanza, from what makes one of its first and second line."""
    return lambda stanza: change(*(line + b"\n" for line in stanza.splitlines()))


FULL, ONES, TWOS = bytes(PIECE), b"\x01" * PIECE, b"\x02" * PIECE
GOOD = {
    "x25519": Forger(),
    "stream_empty": Forger(pieces=((b"", 0, 1),)),
    "stream_last_chunk_full": Forger(pieces=((FULL, 0, 1),)),
    "stream_two_chunks": Forger(pieces=((FULL, 0, 0), (b"x", 1, 1))),
    "stream_three_chunks": Forger(pieces=((FULL, 0, 0), (ONES, 1, 0), (TWOS, 2, 1))),
    "stanza_valid_characters": Forger(before=b"-> stanza " + bytes(range(33, 127)) + b"\nQUJD\n"),
    "stanza_empty_body": Forger(before=b"-> empty\n\n"),
    "stanza_empty_last_line": Forger(after=b"-> stanza\n" + b"A" * 64 + b"\n\n"),
    "x25519_grease": Forger(before=b"-> grease\nQUJD\n", after=b"-> other a b c\n\n"),
    "x25519_not_ours_first": Forger(
        before=Forger(share=b"\x09" + bytes(31)).make().split(b"\n", 1)[1].split(b"---")[0]
    ),
}
BAD = {
    "version_unsupported": Forger(version=b"age-encryption.org/v1234\n"),
    "version_without_end": Forger(version=b"age-encryption.org/v1"),
    "header_crlf": Forger(version=b"age-encryption.org/v1\r\n"),
    "no_stanza": Forger(stanza=lambda _: b""),
    "stanza_bad_start": Forger(stanza=lambda text: b"=" + text[1:]),
    "stanza_base64_padding": Forger(before=b"-> stanza\nQUI=\n"),
    "stanza_empty_argument": Forger(before=b"-> stanza  x\n\n"),
    "stanza_trailing_space": Forger(before=b"-> stanza \n\n"),
    "stanza_no_arguments": Forger(before=b"-> \n\n"),
    "stanza_invalid_character": Forger(before="-> stänza\n\n".encode()),
    "stanza_long_line": Forger(before=b"-> stanza\n" + b"A" * 68 + b"\n\n"),
    "stanza_missing_body": Forger(before=b"-> stanza\n"),
    "stanza_missing_final_line": Forger(before=b"-> stanza\n" + b"A" * 64 + b"\n"),
    "stanza_multiple_short_lines": Forger(before=b"-> stanza\nQUJD\nQUJD\n"),
    "stanza_not_canonical": Forger(before=b"-> stanza\nQUJ\n"),
    "stanza_spurious_cr": Forger(before=b"-> stanza\nQUJD\r\n"),
    "x25519_bad_tag": Forger(stanza=lines(lambda head, body: head + b64(bytes(32)) + b"\n")),
    "x25519_extra_argument": Forger(stanza=lambda text: text.replace(b"\n", b" 1234\n", 1)),
    "x25519_no_argument": Forger(stanza=lines(lambda head, body: b"-> X25519\n" + body)),
    "x25519_identity_share": Forger(share=bytes(32)),
    "x25519_low_order": Forger(share=b"\x01" + bytes(31)),
    "x25519_short_share": Forger(share=bytes(31)),
    "x25519_long_share": Forger(share=b"\x09" + bytes(32)),
    "x25519_long_file_key": Forger(file_key=b"a file key of 24 bytes!!"),
    "x25519_not_canonical_share": Forger(stanza=lines(lambda head, body: spare_bit(head) + body)),
    "x25519_not_canonical_body": Forger(stanza=lines(lambda head, body: head + spare_bit(body))),
    "x25519_lowercase": Forger(kind=b"x25519"),
    "x25519_wrap_label": Forger(wrap_label=b"age-encryption.org/v1/x25519"),
    "scrypt_and_x25519": Forger(before=b"-> scrypt bBjlhJVYZeE4aqUdmtRHfw 10\n" + b64(bytes(32)) + b"\n"),
    "hmac_bad": Forger(mac=lambda _: b" " + b64(bytes(32)) + b"\n"),
    "hmac_label": Forger(mac_label=b"Header"),
    "hmac_extra_space": Forger(mac=lambda line: b" " + line),
    "hmac_garbage": Forger(mac=lambda line: line[:-1] + b"AAAA\n"),
    "hmac_missing": Forger(mac=lambda _: b"\n"),
    "hmac_no_space": Forger(mac=lambda line: line[1:]),
    "hmac_not_canonical": Forger(mac=spare_bit),
    "hmac_trailing_space": Forger(mac=lambda line: line[:-1] + b" \n"),
    "hmac_truncated": Forger(mac=lambda line: line[:-2] + b"\n"),
    "stream_no_nonce": Forger(tail=lambda _: b""),
    "stream_short_nonce": Forger(tail=lambda payload: payload[:12]),
    "stream_no_chunks": Forger(tail=lambda payload: payload[:16]),
    "stream_label": Forger(payload_label=b"Payload"),
    "stream_bad_tag": Forger(tail=lambda payload: payload[:-1] + bytes([payload[-1] ^ 1])),
    "stream_missing_tag": Forger(tail=lambda payload: payload[:-16]),
    "stream_short_tag": Forger(tail=lambda payload: payload[:25]),
    "stream_last_chunk_empty": Forger(pieces=((FULL, 0, 0), (b"", 1, 1))),
    "stream_no_final": Forger(pieces=((b"content", 0, 0),)),
    "stream_no_final_full": Forger(pieces=((FULL, 0, 0),)),
    "stream_no_final_two_chunks": Forger(pieces=((FULL, 0, 0), (b"x", 1, 0))),
    "stream_no_final_two_chunks_full": Forger(pieces=((FULL, 0, 0), (ONES, 1, 0))),
    "stream_two_final_chunks": Forger(pieces=((FULL, 0, 1), (b"x", 1, 1))),
    "stream_order": Forger(pieces=((ONES, 1, 0), (FULL, 0, 0), (b"x", 2, 1))),
    "stream_short_chunk": Forger(pieces=((b"short", 0, 0), (b"x", 1, 1))),
    "stream_short_second_chunk": Forger(pieces=((FULL, 0, 0), (b"short", 1, 0), (b"x", 2, 1))),
    "stream_trailing_garbage_short": Forger(tail=lambda payload: payload + b"x"),
    "stream_trailing_garbage_long": Forger(pieces=((FULL, 0, 1),), tail=lambda payload: payload + bytes(99)),
    "stream_bad_tag_second_chunk": Forger(
        pieces=((FULL, 0, 0), (ONES, 1, 1)), tail=lambda payload: payload[:-1] + bytes([payload[-1] ^ 1])
    ),
    "empty": Forger(version=b"", stanza=lambda _: b"", mac=lambda _: b"", tail=lambda _: b""),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_a_file_by_the_specification_is_opened(case: str) -> None:
    """By us, whole and as a stream, and by pyrage."""
    content = b"".join(piece for piece, _, _ in GOOD[case].pieces)
    sealed = GOOD[case].make()
    assert agefile.decrypt(sealed, [OUR_KEY]) == from_file(sealed, [OUR_KEY]) == content
    assert pyrage.decrypt(sealed, [THEIR_KEY]) == content


@pytest.mark.parametrize("case", BAD)
def test_a_file_against_the_specification_is_refused(case: str) -> None:
    """By us, whole and as a stream; nothing of it counts as content."""
    sealed = BAD[case].make()
    for read in (agefile.decrypt, from_file):
        with pytest.raises(Undecryptable):
            read(sealed, [OUR_KEY])
    assert not agefile.holds(sealed, b"content", [OUR_KEY])


@pytest.mark.parametrize("opener", [OUR_KEY, None], ids=["identity", "author"])
def test_no_byte_can_be_changed(opener: agefile.Identity | None) -> None:
    """R4: each bit of header, nonce and payload, one after the other."""
    sealed, author = agefile.encrypt(b"content", [agefile.Recipient(OTHER_PUBLIC), OURS])
    for at in range(len(sealed)):
        other = bytearray(sealed)
        other[at] ^= 1 << at % 8
        with pytest.raises(Undecryptable):
            agefile.decrypt(other, [opener or author])


SMALL = Forger(pieces=((b"some content", 0, 1),)).make()


@settings(deadline=None)
@given(st.integers(0, len(SMALL)), st.integers(0, 40), st.binary(max_size=40))
def test_no_part_can_be_exchanged_removed_or_added(at: int, removed: int, added: bytes) -> None:
    """R4: at any place."""
    other = SMALL[:at] + added + SMALL[at + removed :]
    if other != SMALL:
        with pytest.raises(Undecryptable):
            agefile.decrypt(other, [OUR_KEY])
        assert not agefile.holds(other, b"some content", [OUR_KEY])


def test_a_file_holds_nothing_but_its_content() -> None:
    """A longer, a shorter and another one are told apart."""
    sealed, author = agefile.encrypt(FULL + b"x", [OURS])
    assert agefile.holds(sealed, FULL + b"x", [author])
    for other in (FULL + b"y", FULL, FULL + b"xx", ONES + b"x", b""):
        assert not agefile.holds(sealed, other, [author])


def test_the_author_opens_no_file_of_another() -> None:
    """To the same recipient, or with a stanza more or less than were made."""
    (sealed, author), (other, _) = agefile.encrypt(b"one", [OURS]), agefile.encrypt(b"two", [OURS])
    assert agefile.decrypt(sealed, [author]) == b"one"
    more = replace(GOOD["x25519"], after=GOOD["x25519"]._stanza()).make()
    for foreign in (other, more):
        with pytest.raises(Undecryptable, match="no matching keys"):
            agefile.decrypt(foreign, [author])


def test_to_somebody_else_is_not_opened() -> None:
    """As what it is, and not as damage."""
    sealed, _ = agefile.encrypt(b"content", [OURS])
    with pytest.raises(Undecryptable, match="no matching keys"):
        agefile.decrypt(sealed, [agefile.Identity(OTHER_SECRET)])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z", "shared key"),
        ("age1qyqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqj7vrya", "shared key"),
        (SECRET, "not a public key"),
        (PUBLIC[:-1] + "q", "not bech32"),
    ],
)
def test_no_recipient_is_a_key_under_which_nothing_is_secret(text: str, error: str) -> None:
    """Points of low order, a secret key, a mistyped one."""
    with pytest.raises(ValueError, match=error):
        agefile.Recipient(text)
    with pytest.raises(ConfigError):
        age.recipient(text)
