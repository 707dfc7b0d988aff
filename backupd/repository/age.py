"""age files (https://age-encryption.org/v1) by way of pyrage, which is loaded only where keys are used.

The one door to pyrage: its errors do not pass, and neither does a secret in a message of ours.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import IO, Any, Protocol

from backupd.errors import BackupdError, ConfigError

_PIECE_BYTES = 64 * 1024
_TAG_BYTES, _NONCE_BYTES = 16, 16
_STANZAS = (b"\n-> X25519 ", b"\n-> ssh-ed25519 ", b"\n-> ssh-rsa ")
_KEYGEN_HINT = "it must be what `age-keygen` prints, age1…, or a public key of ssh: ssh-ed25519 …, ssh-rsa …"

Recipient = Any
Identity = Any


class Undecryptable(BackupdError):
    """The bytes are no age file that these identities or this passphrase open."""


class Output(Protocol):
    """What can be written to."""

    def write(self, data: bytes, /) -> int: ...


def normalise(text: str) -> str:
    """A recipient without its comment; `ConfigError` if it is none, naming it unless it may be secret."""
    words = text.split()
    short = " ".join(words[:2]) if text.lstrip().startswith("ssh-") else text.strip()
    recipient(short)
    return short


def recipient(text: str) -> Recipient:
    """The public key that `text` is; `ConfigError` if it is none."""
    import pyrage

    if "SECRET-KEY" in text.upper() or "PRIVATE KEY" in text.upper():
        raise ConfigError(
            "a recipient is a secret key, which is not repeated here",
            hint="`age-keygen -y FILE` prints the public key that belongs to it; of ssh it is the .pub file",
        )
    kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
    try:
        return kind.Recipient.from_str(text)
    except pyrage.RecipientError:
        shown = f"{text[:72]!r} is" if text.startswith(("age1", "ssh-")) else "one recipient is"
        raise ConfigError(f"{shown} not a public key of age or ssh", hint=_KEYGEN_HINT) from None


def identities(content: bytes, *, name: str) -> list[Identity]:
    """The secret keys in a file: those of age, one a line, or one of ssh; `ConfigError` names the file."""
    import pyrage

    try:
        if b"PRIVATE KEY-----" in content:
            return [pyrage.ssh.Identity.from_buffer(content)]
        lines = [line.strip() for line in content.decode("utf-8").splitlines()]
        found = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except (pyrage.IdentityError, UnicodeDecodeError):
        found = []
    if not found:
        raise ConfigError(
            f"{name} holds no identity that can be used",
            hint="it must be a file as age-keygen makes it, or a private key of ssh (ed25519 or rsa) "
            "without a passphrase of its own (`ssh-keygen -p` takes it off a copy)",
        )
    return found


def new_identity() -> tuple[str, str]:
    """A new secret key and the recipient that belongs to it, as texts."""
    import pyrage

    made = pyrage.x25519.Identity.generate()
    return str(made), str(made.to_public())


def recipient_of(identity: str) -> str:
    """The recipient that belongs to a secret key of age."""
    import pyrage

    return str(pyrage.x25519.Identity.from_str(identity).to_public())


def encrypt(content: bytes, recipients: Sequence[Recipient], *, armored: bool = False) -> bytes:
    """An age file of `content` that each of the recipients opens."""
    import pyrage

    sealed: bytes = pyrage.encrypt(content, list(recipients), armored=armored)
    return sealed


def decrypt(sealed: bytes, identities: Sequence[Identity]) -> bytes:
    """What an age file holds; `Undecryptable` if none of the identities opens it, or if it is damaged."""
    import pyrage

    try:
        content: bytes = pyrage.decrypt(sealed, list(identities))
    except pyrage.DecryptError as error:
        raise _undecryptable(error) from None
    return content


def encrypt_stream(source: IO[bytes], out: Output, recipients: Sequence[Recipient]) -> None:
    """Like `encrypt`, from a file to a file, in little memory."""
    import pyrage

    pyrage.encrypt_io(source, _Writer(out), list(recipients))


def decrypt_stream(source: IO[bytes], out: Output, identities: Sequence[Identity]) -> None:
    """Like `decrypt`, from a file to a file: what was written is worth nothing if it raises."""
    import pyrage

    try:
        pyrage.decrypt_io(source, _Writer(out), list(identities))
    except pyrage.DecryptError as error:
        raise _undecryptable(error) from None


def wrap(content: str, passphrase: str) -> str:
    """An armored age file that a passphrase opens (scrypt, about a second of work)."""
    import pyrage

    sealed: bytes = pyrage.passphrase.encrypt(content.encode(), passphrase, armored=True)
    return sealed.decode("ascii")


def unwrap(sealed: str, passphrase: str) -> str:
    """What `wrap` has wrapped; `Undecryptable` with another passphrase."""
    import pyrage

    try:
        content: bytes = pyrage.passphrase.decrypt(sealed.encode(), passphrase)
    except pyrage.DecryptError as error:
        raise _undecryptable(error) from None
    return content.decode("utf-8", "replace")


def has_form(sealed: bytes, *, content_bytes: int, recipients: int) -> bool:
    """Whether an age file has the length and as many stanzas as it must: all one sees without an identity."""
    header = sealed.find(b"\n--- ")
    begin = sealed.find(b"\n", header + 1) + 1
    if header < 0 or not begin:
        return False
    pieces = max(1, -(-content_bytes // _PIECE_BYTES))
    stanzas = sum(sealed.count(stanza, 0, header) for stanza in _STANZAS)
    return len(sealed) - begin == _NONCE_BYTES + content_bytes + pieces * _TAG_BYTES and stanzas == recipients


def _undecryptable(error: Exception) -> Undecryptable:
    text = str(error)
    return Undecryptable(text[:1].lower() + text[1:])


class _Writer(io.RawIOBase):
    """A file for pyrage to write to."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        """Hand the bytes on."""
        self._out.write(bytes(data))
        return len(data)
