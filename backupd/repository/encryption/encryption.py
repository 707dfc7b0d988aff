"""The keys of an opened encrypted repository (docs/FORMAT.md, "Encryption")."""

from __future__ import annotations

import hashlib
import hmac
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from backupd.errors import KeyMissing, ObjectDamaged, Undecryptable
from backupd.repository.encryption import age
from backupd.repository.encryption.age import Identity, Recipient
from backupd.storage.base import Buffer

if TYPE_CHECKING:
    from backupd.repository.encryption.agefile import Output

_MAC = re.compile(rb',"mac":"([0-9a-f]{64})"}')
_MAC_BYTES = len(b',"mac":""}') + 64
_CIPHER_FAILED = "an encrypted object does not decrypt to what it was made of"
_CIPHER_HINT = "suspect this machine's memory or processor; nothing of this object was stored"
_DAMAGED_HINT = "bring this object back from a copy of the repository; see who else can write to the storage"


class Encryption:
    """Recipients, id_key, and identities to read with, if there are any; any thread may use it.

    `location` names the repository in errors.
    """

    def __init__(
        self, location: str, recipients: Sequence[str], id_key: bytes, identities: Sequence[Identity]
    ) -> None:
        self.recipients = tuple(recipients)
        self._location = location
        self._to = [age.recipient(text) for text in recipients]
        self._id_key = id_key
        self._identities = list(identities)
        if not identities:
            _prove_cipher(self._to)

    def derive(self, purpose: str) -> bytes:
        """The key for one purpose."""
        return derive(self._id_key, purpose)

    def encrypt(self, content: bytes) -> Buffer:
        """An age file of `content` to all recipients, decrypted and compared before it is returned.

        An identity opens it if there is one, else its author. A recipient of ssh's leaves no author: then,
        without an identity, only the age file's form can be checked, which a fault of the cipher may pass.
        """
        sealed, author = age.encrypt(content, self._to)
        openers = self._openers(author)
        if not (age.holds(sealed, content, openers) if openers else self._has_form(sealed, content)):
            raise ObjectDamaged(_CIPHER_FAILED, hint=_CIPHER_HINT)
        return sealed

    def encrypt_stream(self, source: IO[bytes], out: IO[bytes]) -> None:
        """Like `encrypt`, from the rest of a file to an empty one; where nobody can open it, not compared."""
        begin = source.tell()
        openers = self._openers(age.encrypt_stream(source, out, self._to))
        if openers:
            source.seek(begin)
            out.seek(0)
            if not _stream_opens_to(out, source, openers):
                raise ObjectDamaged(_CIPHER_FAILED, hint=_CIPHER_HINT)

    def decrypt(self, sealed: bytes, *, key: str) -> bytes:
        """What the age file under `key` holds, or `ObjectDamaged`; `KeyMissing` without an identity."""
        self.check_readable()
        try:
            return age.decrypt(sealed, self._identities)
        except Undecryptable as error:
            raise _damaged(key, error) from error

    def decrypt_stream(self, source: IO[bytes], out: Output, *, key: str) -> None:
        """Like `decrypt`, from file to file: what was written is worth nothing if it raises."""
        self.check_readable()
        try:
            age.decrypt_stream(source, out, self._identities)
        except Undecryptable as error:
            raise _damaged(key, error) from error

    @property
    def readable(self) -> bool:
        """Whether there is an identity."""
        return bool(self._identities)

    def check_readable(self) -> None:
        """`KeyMissing` unless there is an identity."""
        if not self.readable:
            raise KeyMissing(
                f"snapshots of {self._location} cannot be read here: no identity is set",
                hint="do this where the secret key is, with encryption.identity_file or passphrase_file set",
            )

    def sign(self, purpose: str, body: bytes) -> bytes:
        """The JSON object `body` with a MAC as its last member."""
        return body[:-1] + b',"mac":"' + self._mac(purpose, body) + b'"}'

    def verify(self, purpose: str, signed: bytes, *, key: str) -> bytes:
        """What `sign` was given; `ObjectDamaged` names `key` if nobody with the id_key has signed it."""
        match = _MAC.fullmatch(signed[-_MAC_BYTES:])
        body = signed[:-_MAC_BYTES] + b"}"
        if match is None or not hmac.compare_digest(match[1], self._mac(purpose, body)):
            raise ObjectDamaged(
                f"{key} was damaged or forged: it has no MAC of this repository", hint=_DAMAGED_HINT
            )
        return body

    def _mac(self, purpose: str, body: bytes) -> bytes:
        return hmac.digest(self.derive(purpose), body, "sha256").hex().encode("ascii")

    def _openers(self, author: Identity | None) -> list[Identity]:
        return self._identities or ([author] if author else [])

    def _has_form(self, sealed: Buffer, content: bytes) -> bool:
        return age.has_form(sealed, content_bytes=len(content), recipients=len(self._to))


class _Digest:
    """A file that keeps nothing but the hash of what was written."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, data: bytes, /) -> int:
        """Hash the bytes."""
        self.hash.update(data)
        return len(data)


def derive(id_key: bytes, purpose: str) -> bytes:
    """The key for one purpose.

    Under the id_key itself only these few texts are signed: ids are MACs of whatever people store, in names
    that anybody may read, and must never be the MAC of a manifest, nor another purpose's key.
    """
    return hmac.digest(id_key, f"backupd {purpose}".encode("ascii"), "sha256")


def _stream_opens_to(sealed: IO[bytes], content: IO[bytes], openers: Sequence[Identity]) -> bool:
    opened, expected = _Digest(), _Digest()
    try:
        age.decrypt_stream(sealed, opened, openers)
    except Undecryptable:
        return False
    shutil.copyfileobj(content, expected)
    return opened.hash.digest() == expected.hash.digest()


def _prove_cipher(recipients: Sequence[Recipient]) -> None:
    """`ObjectDamaged` unless this machine decrypts what it encrypts, to a key made for this and forgotten."""
    secret, public = age.new_identity()
    to, (identity,) = age.recipient(public), age.identities(secret.encode(), name="")
    if not all(each.native for each in recipients):
        to, identity = replace(to, native=None), replace(identity, native=None)
    content = bytes(range(256)) * 512
    if not age.holds(age.encrypt(content, [to])[0], content, [identity]):
        raise ObjectDamaged(
            "age does not decrypt what it encrypted", hint="suspect this machine's memory or processor"
        )


def _damaged(key: str, error: Undecryptable) -> ObjectDamaged:
    return ObjectDamaged(f"{key} is damaged: age says: {error.message}", hint=_DAMAGED_HINT)
