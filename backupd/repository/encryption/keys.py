"""What is brought to open an encrypted repository with, and the files that hold it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from backupd.errors import BackupdError, ConfigError
from backupd.repository.encryption import age
from backupd.repository.encryption.age import Identity
from backupd.storage.publish import sync_directory

_ID_KEY = re.compile(rb"([0-9a-f]{64})\n?")


@dataclass(frozen=True)
class Keys:
    """Recipients, and where secrets lie: paths only, so that no secret is in a value that could be printed.

    `id_key_file` need not exist; the others are read when an encrypted repository is opened.
    """

    recipients: tuple[str, ...] = ()
    identity_file: Path | None = None
    passphrase_file: Path | None = None
    id_key_file: Path | None = None

    @property
    def asked_for(self) -> str | None:
        """What tells that an encrypted repository is meant; None if nothing does."""
        if self.recipients:
            return "encryption.recipients is set"
        if self.passphrase_file:
            return "encryption.passphrase_file is set"
        if self.identity_file:
            return "encryption.identity_file is set"
        if self.id_key_file and _is_there(self.id_key_file):
            return f"the id_key of an encrypted repository is in {self.id_key_file}"
        return None

    def identities(self) -> list[Identity]:
        """The identities of `identity_file`, none without one; `ConfigError` if it cannot be used."""
        if self.identity_file is None:
            return []
        return age.identities(_read(self.identity_file, "identity_file"), name=str(self.identity_file))

    def passphrase(self) -> str | None:
        """What `passphrase_file` holds, without white space around it; None without one."""
        if self.passphrase_file is None:
            return None
        text = _read(self.passphrase_file, "passphrase_file").decode("utf-8", "replace").strip()
        if not text or "�" in text:
            raise ConfigError(f"{self.passphrase_file} holds no passphrase", hint="write it there, in UTF-8")
        return text

    def id_key(self) -> bytes | None:
        """What `id_key_file` holds, None if there is no such file; `ConfigError` if it is no id_key."""
        if self.id_key_file is None or not _is_there(self.id_key_file):
            return None
        id_key = read_id_key(_read(self.id_key_file, "id_key_file"))
        if id_key is None:
            raise ConfigError(
                f"{self.id_key_file} holds no id_key",
                hint="it must be 64 hexadecimal digits: copy it anew from a host that has it",
            )
        return id_key


def id_key_text(id_key: bytes) -> bytes:
    """An id_key as it stands in its file, and wrapped in the marker."""
    return id_key.hex().encode("ascii") + b"\n"


def read_id_key(text: bytes) -> bytes | None:
    """The id_key in such a text; None if there is none."""
    match = _ID_KEY.fullmatch(text)
    return bytes.fromhex(match[1].decode("ascii")) if match else None


def write_id_key(path: Path, id_key: bytes) -> None:
    """Keep the id_key durably in a new file that only its owner reads; `ConfigError` where there is one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as out:
            out.write(id_key_text(id_key))
            out.flush()
            os.fsync(file)
        sync_directory(str(path.parent), os.fsync)
    except FileExistsError:
        raise ConfigError(
            f"{path} exists already: it may be the key of another repository",
            hint="set encryption.id_key_file to another path; remove the file only if no repository needs it",
        ) from None
    except OSError as error:
        raise BackupdError(
            f"cannot write the id_key to {path}: {error.strerror}",
            hint="set encryption.id_key_file to a path that this user can write",
        ) from error


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (
        OSError
    ):  # in a directory that is closed to this user, who may read a repository that is not encrypted
        return False


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", hint=f"it is named by the setting encryption.{setting}"
        ) from error
