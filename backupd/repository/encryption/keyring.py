"""A repository's keys behind its marker's lock: made once, and found again (docs/FORMAT.md, "Encryption")."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from backupd.errors import KeyMissing, RepositoryUnsupported, Undecryptable, WrongKey
from backupd.repository.encryption import age
from backupd.repository.encryption.age import Identity
from backupd.repository.encryption.encryption import Encryption, derive
from backupd.repository.encryption.keys import Keys, id_key_text, read_id_key

_SCHEME = "age"


@dataclass(frozen=True)
class _Lock:
    """What a marker says of its encryption; `identity` is wrapped in a passphrase, if there is one."""

    recipients: tuple[str, ...]
    id_key: str
    identity: str | None
    check: str


def lock(keys: Keys, *, location: str) -> tuple[Encryption, bytes, dict[str, Any]]:
    """New keys for a repository: themselves, the id_key, and what its marker says of them.

    `ConfigError` names a recipient that is none; `WrongKey` says that the identity would not open it.
    """
    recipients = [age.normalise(text) for text in keys.recipients]
    identities, wrapped = keys.identities(), None
    if (passphrase := keys.passphrase()) is not None:
        secret, public = age.new_identity()
        wrapped = age.wrap(secret, passphrase)
        recipients.append(public)
    recipients = list(dict.fromkeys(recipients))
    id_key = secrets.token_bytes(32)
    sealed = age.encrypt_armored(id_key_text(id_key), [age.recipient(text) for text in recipients])
    if identities:
        _open(sealed, identities, f"the identity in {keys.identity_file}", location)
    stated = {
        "scheme": _SCHEME,
        "recipients": recipients,
        "id_key": sealed,
        "identity": wrapped,
        "check": derive(id_key, "check").hex(),
    }
    return Encryption(location, recipients, id_key, identities), id_key, stated


def unlock(stated: object, keys: Keys, *, marker: bytes, key: str, location: str) -> Encryption:
    """The keys of the repository whose marker states this, from identity, passphrase or id_key.

    `ObjectDamaged` where the marker, stored under `key`, is not as it was made; `KeyMissing` where there is
    no key; `WrongKey` where one does not fit, or where the settings' recipients are not the repository's.
    """
    found = _read(stated, location)
    identities, id_key, unlocked = keys.identities(), None, None
    if identities:
        id_key = _open(found.id_key, identities, f"the identity in {keys.identity_file}", location)
    if (passphrase := keys.passphrase()) is not None:
        unlocked = _identity(found, passphrase, f"the passphrase in {keys.passphrase_file}", location)
        identities += age.identities(unlocked.encode(), name=location)
        id_key = _open(found.id_key, identities, f"the passphrase in {keys.passphrase_file}", location)
    id_key = _agreed(id_key, keys, found, location)
    encryption = Encryption(location, found.recipients, id_key, identities)
    encryption.verify("marker", marker, key=key)
    _check_recipients(found, keys, unlocked, location)
    return encryption


def _read(stated: object, location: str) -> _Lock:
    match stated:
        case {
            "scheme": str(scheme),
            "recipients": [str(), *_] as recipients,
            "id_key": str(id_key),
            "identity": None | str() as identity,
            "check": str(check),
        } if scheme == _SCHEME and check.isascii():
            return _Lock(tuple(map(str, recipients)), id_key, identity, check)
    raise RepositoryUnsupported(
        f"{location} is encrypted in a way that this version does not know",
        hint="use the backupd version that wrote it",
    )


def _open(sealed: str, identities: Sequence[Identity], what: str, location: str) -> bytes:
    try:
        id_key = read_id_key(age.decrypt_armored(sealed, identities))
    except Undecryptable:
        id_key = None
    if id_key is None:
        raise WrongKey(
            f"{what} does not open {location}",
            hint="use one that belongs to a recipient of the repository; backupd.json lists them",
        )
    return id_key


def _identity(found: _Lock, passphrase: str, what: str, location: str) -> str:
    if found.identity is None:
        raise WrongKey(f"{location} has no passphrase", hint="set encryption.identity_file instead")
    try:
        return _unwrapped(found.identity, passphrase)
    except Undecryptable:
        raise WrongKey(f"{what} does not open {location}", hint="write the right one there") from None


@lru_cache(maxsize=4)  # a daemon opens its repository for each run, and scrypt is slow on purpose
def _unwrapped(identity: str, passphrase: str) -> str:
    return age.unwrap(identity, passphrase).strip()


def _agreed(unsealed: bytes | None, keys: Keys, found: _Lock, location: str) -> bytes:
    kept = keys.id_key()
    id_key = unsealed or kept
    if id_key is None:
        raise KeyMissing(
            f"{location} is encrypted, and there is no key to it here",
            hint="to read it set encryption.identity_file; to write to it alone, copy the id_key "
            f"of a host that does to {keys.id_key_file}",
        )
    fits = hmac.compare_digest(derive(id_key, "check").hex(), found.check)
    if not fits or (kept and kept != id_key):
        raise WrongKey(
            f"the id_key in {keys.id_key_file} is not that of {location}"
            if kept
            else f"the id_key in the marker of {location} is not the one it was made with",
            hint="copy it anew from a host that writes there, or set encryption.id_key_file to the right one",
        )
    return id_key


def _check_recipients(found: _Lock, keys: Keys, unlocked: str | None, location: str) -> None:
    """Whoever can exchange the marker must not add a recipient of his own to what the settings name."""
    own = {age.recipient_of(unlocked)} if unlocked else set()
    if keys.recipients and {*map(age.normalise, keys.recipients), *own} != set(found.recipients):
        raise WrongKey(
            f"{location} is encrypted to other recipients than encryption.recipients names",
            hint=f"its own are {', '.join(found.recipients)}: set these if you trust them; to encrypt to "
            "others, make another repository",
        )
