"""age files (https://age-encryption.org/v1): keys, and what is encrypted to them.

What is to and from age's own keys alone `agefile` does. The rest takes pyrage, and here is the one door to
it: its errors do not pass, and neither does a secret in a message of ours. Both are loaded only where keys
are used.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, overload

from backupd.errors import ConfigError, Undecryptable
from backupd.storage.base import Buffer

if TYPE_CHECKING:
    from backupd.repository.encryption.agefile import Opener, Output
    from backupd.repository.encryption.agefile import Recipient as NativeRecipient

_PIECE_BYTES = 64 * 1024
_TAG_BYTES, _NONCE_BYTES = 16, 16
_STANZAS = (b"\n-> X25519 ", b"\n-> ssh-ed25519 ", b"\n-> ssh-rsa ")
_GUESSES = 50
"""age guesses in 3 ms how slow scrypt will be; on a busy machine it then refuses what it has made itself."""

_KEYGEN_HINT = "it must be what `age-keygen` prints, age1…, or a public key of ssh: ssh-ed25519 …, ssh-rsa …"


@dataclass(frozen=True)
class Recipient:
    """A public key: pyrage's, and, where it is one of age's own, also ours."""

    foreign: Any = field(repr=False)
    native: NativeRecipient | None = field(repr=False)


@dataclass(frozen=True)
class Identity:
    """A secret key, or an author: pyrage's, and, where it is one of age's own, also ours."""

    foreign: Any = field(repr=False)
    native: Opener | None = field(repr=False)


def normalise(text: str) -> str:
    """A recipient without its comment; `ConfigError` if it is none, naming it unless it may be secret."""
    words = text.split()
    short = " ".join(words[:2]) if text.lstrip().startswith("ssh-") else text.strip()
    recipient(short)
    return short


def recipient(text: str) -> Recipient:
    """The public key that `text` is; `ConfigError` if it is none."""
    import pyrage

    from backupd.repository.encryption import agefile

    if "SECRET-KEY" in text.upper() or "PRIVATE KEY" in text.upper():
        raise ConfigError(
            "a recipient is a secret key, which is not repeated here",
            hint="`age-keygen -y FILE` prints the public key that belongs to it; of ssh it is the .pub file",
        )
    try:
        if text.startswith("ssh-"):
            return Recipient(pyrage.ssh.Recipient.from_str(text), None)
        return Recipient(pyrage.x25519.Recipient.from_str(text), agefile.Recipient(text))
    except (pyrage.RecipientError, ValueError):
        shown = f"{text[:72]!r} is" if text.startswith(("age1", "ssh-")) else "one recipient is"
        raise ConfigError(f"{shown} not a public key of age or ssh", hint=_KEYGEN_HINT) from None


def identities(content: bytes, *, name: str) -> list[Identity]:
    """The secret keys in a file: those of age, one a line, or one of ssh; `ConfigError` names the file."""
    import pyrage

    from backupd.repository.encryption import agefile

    try:
        if b"PRIVATE KEY-----" in content:
            return [Identity(pyrage.ssh.Identity.from_buffer(content), None)]
        lines = [line.strip() for line in content.decode("utf-8").splitlines()]
        found = [
            Identity(pyrage.x25519.Identity.from_str(line), agefile.Identity(line))
            for line in lines
            if line and not line.startswith("#")
        ]
    except (pyrage.IdentityError, ValueError):  # the latter also where it is not UTF-8
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


def encrypt(content: bytes, recipients: Sequence[Recipient]) -> tuple[Buffer, Identity | None]:
    """An age file of `content` that each of the recipients opens, and its author where one can open it."""
    if native := _natives(recipients):
        from backupd.repository.encryption import agefile

        sealed, author = agefile.encrypt(content, native)
        return sealed, Identity(None, author)
    import pyrage

    return pyrage.encrypt(content, [each.foreign for each in recipients]), None


def encrypt_stream(source: IO[bytes], out: Output, recipients: Sequence[Recipient]) -> Identity | None:
    """Like `encrypt`, from a file to a file, in little memory."""
    if native := _natives(recipients):
        from backupd.repository.encryption import agefile

        return Identity(None, agefile.encrypt_stream(source, out, native))
    import pyrage

    pyrage.encrypt_io(source, _Writer(out), [each.foreign for each in recipients])
    return None


def decrypt(sealed: Buffer, identities: Sequence[Identity]) -> bytes:
    """What an age file holds; `Undecryptable` if none of the identities opens it, or if it is damaged."""
    if openers := _natives(identities):
        from backupd.repository.encryption import agefile

        return agefile.decrypt(sealed, openers)
    import pyrage

    try:
        content: bytes = pyrage.decrypt(bytes(sealed), [each.foreign for each in identities])
    except pyrage.DecryptError as error:
        raise _undecryptable(error) from None
    return content


def decrypt_stream(source: IO[bytes], out: Output, identities: Sequence[Identity]) -> None:
    """Like `decrypt`, from a file to a file: what was written is worth nothing if it raises."""
    if openers := _natives(identities):
        from backupd.repository.encryption import agefile

        return agefile.decrypt_stream(source, out, openers)
    import pyrage

    try:
        pyrage.decrypt_io(source, _Writer(out), [each.foreign for each in identities])
    except pyrage.DecryptError as error:
        raise _undecryptable(error) from None


def holds(sealed: Buffer, content: bytes, identities: Sequence[Identity]) -> bool:
    """Whether `decrypt` would return `content`."""
    if openers := _natives(identities):
        from backupd.repository.encryption import agefile

        return agefile.holds(sealed, content, openers)
    try:
        return decrypt(sealed, identities) == content
    except Undecryptable:
        return False


def encrypt_armored(content: bytes, recipients: Sequence[Recipient]) -> str:
    """An armored age file, which is text."""
    import pyrage

    sealed: bytes = pyrage.encrypt(content, [each.foreign for each in recipients], armored=True)
    return sealed.decode("ascii")


def decrypt_armored(sealed: str, identities: Sequence[Identity]) -> bytes:
    """What `encrypt_armored` made holds; `Undecryptable` as of `decrypt`."""
    import pyrage

    try:
        content: bytes = pyrage.decrypt(sealed.encode(), [each.foreign for each in identities])
    except pyrage.DecryptError as error:
        raise _undecryptable(error) from None
    return content


def wrap(content: str, passphrase: str) -> str:
    """An armored age file that a passphrase opens (scrypt, about a second of work)."""
    import pyrage

    sealed: bytes = pyrage.passphrase.encrypt(content.encode(), passphrase, armored=True)
    return sealed.decode("ascii")


def unwrap(sealed: str, passphrase: str) -> str:
    """What `wrap` has wrapped; `Undecryptable` with another passphrase."""
    import pyrage

    for _ in range(_GUESSES):
        try:
            content: bytes = pyrage.passphrase.decrypt(sealed.encode(), passphrase)
            return content.decode("utf-8", "replace")
        except pyrage.DecryptError as error:
            refusal = error
            if "Excessive work" not in str(error):
                break
    raise _undecryptable(refusal) from None


def has_form(sealed: Buffer, *, content_bytes: int, recipients: int) -> bool:
    """Whether an age file has the length and as many stanzas as it must: all one sees without an identity."""
    whole = bytes(sealed)
    header = whole.find(b"\n--- ")
    begin = whole.find(b"\n", header + 1) + 1
    if header < 0 or not begin:
        return False
    pieces = max(1, -(-content_bytes // _PIECE_BYTES))
    stanzas = sum(whole.count(stanza, 0, header) for stanza in _STANZAS)
    return len(whole) - begin == _NONCE_BYTES + content_bytes + pieces * _TAG_BYTES and stanzas == recipients


@overload
def _natives(keys: Sequence[Recipient]) -> list[NativeRecipient]: ...
@overload
def _natives(keys: Sequence[Identity]) -> list[Opener]: ...
def _natives(keys: Sequence[Recipient] | Sequence[Identity]) -> Any:
    """Our own forms of all the keys, none where pyrage must do it."""
    native = [each.native for each in keys]
    return native if all(native) else []


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
