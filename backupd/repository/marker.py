"""The marker, `backupd.json`: what makes a storage a repository (docs/FORMAT.md)."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from backupd.errors import ConfigError, WrongKey
from backupd.repository.encryption.encryption import Encryption
from backupd.repository.encryption.keyring import lock, unlock
from backupd.repository.encryption.keys import Keys
from backupd.repository.stream.chunker import CDC_AVERAGE, CDC_MAX, CDC_MIN
from backupd.snapshot import FORMAT, check_format, parse_object

MARKER = "backupd.json"


@dataclass(frozen=True)
class Marker:
    """A repository's id, and its keys if it is encrypted."""

    id: str
    encryption: Encryption | None


def new_marker(keys: Keys, *, location: str) -> tuple[bytes, bytes | None]:
    """A marker for a new repository, and the id_key if `keys` ask for an encrypted one.

    `ConfigError` names a recipient that is none; `WrongKey` says that the identity would not open it.
    """
    values: dict[str, Any] = {
        "format": FORMAT,
        "id": str(uuid.uuid4()),
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "required_features": [],
        "encryption": None,
        "chunker": {"algorithm": "fastcdc", "min": CDC_MIN, "average": CDC_AVERAGE, "max": CDC_MAX},
    }
    if not keys.recipients and not keys.passphrase_file:
        if keys.identity_file:
            raise ConfigError(
                "encryption.identity_file is set, but no recipients to encrypt to",
                hint=f"set encryption.recipients: `age-keygen -y {keys.identity_file}` prints the public key",
            )
        return json.dumps(values, indent=1).encode() + b"\n", None
    encryption, id_key, values["encryption"] = lock(keys, location=location)
    return encryption.sign("marker", json.dumps(values, indent=1).encode()), id_key


def read_marker(data: bytes, keys: Keys, *, location: str) -> Marker:
    """What a marker says, its keys found and proven right; `unlock` has what may be wrong with them.

    `WrongKey` as well where `keys` are for an encrypted repository and this one is not: what is meant to be
    secret is not written to a storage because somebody has exchanged its marker.
    """
    values = parse_object(data, key=MARKER)
    check_format(values, key=MARKER)
    if (stated := values.get("encryption")) is None:
        if reason := keys.asked_for:
            raise WrongKey(
                f"{location} is not encrypted, but {reason}",
                hint="make an encrypted repository elsewhere with `backupd init`; or take the keys out of "
                "the settings and the state directory, if this one is meant",
            )
        return Marker(str(values.get("id")), None)
    return Marker(str(values.get("id")), unlock(stated, keys, marker=data, key=MARKER, location=location))
