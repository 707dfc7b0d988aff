"""age files to X25519 keys, at the speed of the machine (https://age-encryption.org/v1).

All chunks pass here, so this is our own: pyrage stops every other thread while it works, `cryptography`
lets them run. The one door to `cryptography`. Keys of ssh, passphrases and armor are not known here.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from backupd.errors import Undecryptable
from backupd.repository.encryption import bech32
from backupd.storage.base import Buffer

PIECE_BYTES = 64 * 1024
NONCE_BYTES = TAG_BYTES = 16
_FILE_KEY_BYTES = 16
_HEADER_LIMIT_BYTES = 256 * 1024
_VERSION = b"age-encryption.org/v1\n"
_X25519 = b"X25519"
_WRAP_LABEL = b"age-encryption.org/v1/X25519"

_LINES = rb"(?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n"
_STANZA = re.compile(rb"-> ([!-~]+(?: [!-~]+)*)\n(" + _LINES + rb")")
_HEADER = re.compile(
    rb"(" + _VERSION.replace(b".", rb"\.") + rb"(?:-> [!-~]+(?: [!-~]+)*\n" + _LINES + rb")+---) "
    rb"([A-Za-z0-9+/]{43})\n"
)
"""The header as the specification's ABNF has it: the text that has a MAC, and the MAC."""

Parts = Iterable[tuple[Buffer, bool]]
"""Parts of a content or payload, and of each whether it is the last."""


class Output(Protocol):
    """What can be written to."""

    def write(self, data: bytes, /) -> int: ...


@dataclass(frozen=True)
class Stanza:
    """One recipient's way to the file key: a share and the wrapped key."""

    share: bytes
    body: bytes


class Opener(Protocol):
    """Who may know the file key."""

    def file_key(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """The file key, None if the stanzas are for others; `Undecryptable` where one is a trap."""
        ...


class Recipient:
    """A public key of age; `ValueError` if `text` is none, or one with which nothing would be secret."""

    def __init__(self, text: str) -> None:
        prefix, self.public = bech32.decode(text)
        if prefix != "age":
            raise ValueError("not a public key of age")
        self.key = X25519PublicKey.from_public_bytes(self.public)
        X25519PrivateKey.generate().exchange(self.key)  # fails with the keys that bring it to zero


class Identity:
    """A secret key of age; `ValueError` if `text` is none."""

    def __init__(self, text: str) -> None:
        prefix, secret = bech32.decode(text)
        if prefix != "age-secret-key-":
            raise ValueError("not a secret key of age")
        self._key = X25519PrivateKey.from_private_bytes(secret)
        self._public = self._key.public_key().public_bytes_raw()

    def file_key(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """What the first stanza holds that opens."""
        for stanza in stanzas:
            secret = _exchange(self._key, X25519PublicKey.from_public_bytes(stanza.share))
            if (file_key := _unwrap(stanza, secret, self._public)) is not None:
                return file_key
        return None


class Author:
    """Who made one age file, and can open it by working out every stanza once more."""

    def __init__(self, file_key: bytes, ephemerals: Sequence[tuple[X25519PrivateKey, Recipient]]) -> None:
        self._file_key = file_key
        self._ephemerals = ephemerals

    def file_key(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """The file key, if it is in the stanza of each recipient, and no other stanza is there."""
        if len(stanzas) != len(self._ephemerals):
            return None
        for stanza, (ephemeral, recipient) in zip(stanzas, self._ephemerals, strict=True):
            again = X25519PrivateKey.from_private_bytes(ephemeral.private_bytes_raw())
            found = _unwrap(stanza, _exchange(again, recipient.key), recipient.public)
            if found != self._file_key or stanza.share != again.public_key().public_bytes_raw():
                return None
        return self._file_key


def encrypt(content: Buffer, recipients: Sequence[Recipient]) -> tuple[bytearray, Author]:
    """An age file of `content` that each of the recipients opens, and its author."""
    file_key, header, author = _begin(recipients)
    nonce, view = os.urandom(NONCE_BYTES), memoryview(content)
    cipher, at = _cipher(file_key, nonce), len(header) + NONCE_BYTES
    # Written in place: pieces that are joined later are copied twice, which costs more than the cipher.
    sealed = bytearray(at + len(view) + max(1, -(-len(view) // PIECE_BYTES)) * TAG_BYTES)
    sealed[:at] = header + nonce
    out = memoryview(sealed)
    for number, (piece, last) in enumerate(_cut(view, PIECE_BYTES)):
        end = at + len(piece) + TAG_BYTES
        cipher.encrypt_into(_piece_nonce(number, last), piece, None, out[at:end])
        at = end
    return sealed, author


def encrypt_stream(source: IO[bytes], out: Output, recipients: Sequence[Recipient]) -> Author:
    """Like `encrypt`, from the rest of a file to a file, in little memory."""
    file_key, header, author = _begin(recipients)
    out.write(header)
    for part in _seal(file_key, _read(source, PIECE_BYTES)):
        out.write(part)
    return author


def decrypt(sealed: Buffer, openers: Sequence[Opener]) -> bytes:
    """What an age file holds; `Undecryptable` if none of them opens it, or if it is damaged."""
    return b"".join(_pieces(sealed, openers))


def holds(sealed: Buffer, content: bytes, openers: Sequence[Opener]) -> bool:
    """Whether `decrypt` would return `content`, found out piece by piece: whole copies would cost as much."""
    at = 0
    try:
        for piece in _pieces(sealed, openers):
            if piece != content[at : at + len(piece)]:
                return False
            at += len(piece)
    except Undecryptable:
        return False
    return at == len(content)


def decrypt_stream(source: IO[bytes], out: Output, openers: Sequence[Opener]) -> None:
    """Like `decrypt`, from the rest of a file that can be sought in.

    Each piece that is written is the author's, but there are all only if this returns.
    """
    at = source.tell()
    file_key, begin = _file_key(source.read(_HEADER_LIMIT_BYTES), openers)
    source.seek(at + begin)
    nonce = source.read(NONCE_BYTES)
    for part in _open(file_key, nonce, _read(source, PIECE_BYTES + TAG_BYTES)):
        out.write(part)


def _pieces(sealed: Buffer, openers: Sequence[Opener]) -> Iterator[bytes]:
    file_key, begin = _file_key(sealed, openers)
    nonce, view = begin + NONCE_BYTES, memoryview(sealed)
    return _open(file_key, view[begin:nonce], _cut(view[nonce:], PIECE_BYTES + TAG_BYTES))


def _begin(recipients: Sequence[Recipient]) -> tuple[bytes, bytes, Author]:
    """A new file key, never used again, the header that wraps it, and who knows how."""
    file_key = os.urandom(_FILE_KEY_BYTES)
    ephemerals = [(X25519PrivateKey.generate(), recipient) for recipient in recipients]
    lines = [_VERSION]
    for ephemeral, recipient in ephemerals:
        share = ephemeral.public_key().public_bytes_raw()
        wrap_key = _wrap_key(_exchange(ephemeral, recipient.key), share, recipient.public)
        body = ChaCha20Poly1305(wrap_key).encrypt(bytes(12), file_key, None)
        lines += [b"-> ", _X25519, b" ", _base64(share), b"\n", _base64(body), b"\n"]
    header = b"".join((*lines, b"---"))
    return file_key, header + b" " + _base64(_mac(file_key, header)) + b"\n", Author(file_key, ephemerals)


def _file_key(sealed: Buffer, openers: Sequence[Opener]) -> tuple[bytes, int]:
    """The file key of an age file whose header is as its author made it, and where the payload begins."""
    match = _HEADER.match(sealed, 0, _HEADER_LIMIT_BYTES)
    if match is None:
        raise Undecryptable("header is invalid")
    stanzas, mac = _stanzas(match[1]), _unbase64(match[2])
    file_key = next(filter(None, (opener.file_key(stanzas) for opener in openers)), None)
    if file_key is None:
        raise Undecryptable("no matching keys found")
    if not hmac.compare_digest(mac, _mac(file_key, match[1])):
        raise Undecryptable("header was altered: it has another MAC")
    return file_key, match.end()


def _stanzas(header: bytes) -> list[Stanza]:
    """The stanzas of X25519 keys; others are passed over, but none may break the rules for all."""
    found = []
    for match in _STANZA.finditer(header, len(_VERSION)):
        arguments, body = match[1].split(b" "), _unbase64(match[2].replace(b"\n", b""))
        if arguments[0] == b"scrypt":
            raise Undecryptable("it is encrypted to a passphrase")
        if arguments[0] != _X25519:
            continue
        share = _unbase64(arguments[1]) if len(arguments) == 2 else b""
        if len(share) != 32 or len(body) != _FILE_KEY_BYTES + TAG_BYTES:
            raise Undecryptable("header is invalid: a stanza of another length")
        found.append(Stanza(share, body))
    return found


def _exchange(key: X25519PrivateKey, public: X25519PublicKey) -> bytes:
    try:
        return key.exchange(public)
    except ValueError:  # the shared secret is zero
        raise Undecryptable("header is invalid: a share that brings every key to zero") from None


def _unwrap(stanza: Stanza, secret: bytes, public: bytes) -> bytes | None:
    try:
        return ChaCha20Poly1305(_wrap_key(secret, stanza.share, public)).decrypt(bytes(12), stanza.body, None)
    except InvalidTag:
        return None


def _wrap_key(secret: bytes, share: bytes, public: bytes) -> bytes:
    return _hkdf(secret, salt=share + public, label=_WRAP_LABEL)


def _mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_hkdf(file_key, salt=b"", label=b"header"), header, "sha256")


def _hkdf(key: bytes, *, salt: Buffer, label: bytes) -> bytes:
    """The first 32 bytes of HKDF-SHA256 (RFC 5869)."""
    return hmac.digest(hmac.digest(salt, key, "sha256"), label + b"\x01", "sha256")


def _seal(file_key: bytes, pieces: Parts) -> Iterator[bytes]:
    """A new nonce, and each piece encrypted under it."""
    nonce = os.urandom(NONCE_BYTES)
    yield nonce
    cipher = _cipher(file_key, nonce)
    for number, (piece, last) in enumerate(pieces):
        yield cipher.encrypt(_piece_nonce(number, last), piece, None)


def _open(file_key: bytes, nonce: Buffer, pieces: Parts) -> Iterator[bytes]:
    """The content of each piece; `Undecryptable` where one is not the author's, or not in its place."""
    cipher = _cipher(file_key, nonce)
    for number, (piece, last) in enumerate(pieces):
        if len(piece) < TAG_BYTES or (number and len(piece) == TAG_BYTES):
            raise Undecryptable("file is cut short, or ends in an empty piece")
        try:
            yield cipher.decrypt(_piece_nonce(number, last), piece, None)
        except InvalidTag:
            raise Undecryptable(f"decryption error in piece {number}") from None


def _cipher(file_key: bytes, nonce: Buffer) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(_hkdf(file_key, salt=nonce, label=b"payload"))


def _piece_nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _cut(content: memoryview, size: int) -> Iterator[tuple[Buffer, bool]]:
    final = max(0, len(content) - 1) // size * size
    for at in range(0, final, size):
        yield content[at : at + size], False
    yield content[final:], True


def _read(file: IO[bytes], size: int) -> Iterator[tuple[Buffer, bool]]:
    piece = file.read(size)
    while following := file.read(size):
        yield piece, False
        piece = following
    yield piece, True


def _base64(content: bytes) -> bytes:
    return base64.b64encode(content).rstrip(b"=")


def _unbase64(text: bytes) -> bytes:
    """Only what `_base64` makes: each content has one text."""
    try:
        content = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        content = b""
    if _base64(content) != text:
        raise Undecryptable("header is invalid: base64 that is not canonical")
    return content
