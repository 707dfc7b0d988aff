"""Keys made for a test: identities of age and ssh in files, and what opens a repository with them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from backupd.repository import Keys
from backupd.repository.encryption import age


@dataclass(frozen=True)
class KeyPair:
    """A recipient, and the file that holds its secret key."""

    recipient: str
    identity_file: Path
    secret: str

    def keys(self, *, id_key_file: Path | None = None, reads: bool = True) -> Keys:
        """What one brings who has this pair, or only its public half."""
        return Keys((self.recipient,), self.identity_file if reads else None, None, id_key_file)


def age_pair(directory: Path, name: str = "key") -> KeyPair:
    """A new pair of age's own kind."""
    secret, public = age.new_identity()
    path = directory / f"{name}.txt"
    path.write_text(f"# public key: {public}\n{secret}\n")
    return KeyPair(public, path, secret)


def ssh_pair(directory: Path, kind: str = "ed25519") -> KeyPair:
    """A new pair of ssh's, its public key with a comment."""
    path = directory / f"id_{kind}"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "me@host", "-f", str(path)], check=True, timeout=60
    )
    return KeyPair(path.with_suffix(".pub").read_text().strip(), path, path.read_text())
