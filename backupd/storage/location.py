"""From what a person writes as `storage` to the storage itself."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from backupd.errors import UsageError
from backupd.storage.base import Storage
from backupd.storage.local import LocalStorage


def open_storage(location: str, *, create: bool = False) -> Storage:
    """The storage at `location`: an absolute directory, or the same as a `file://` address.

    `create` makes the directory; without it a missing one is a `StorageError`, because it may be a disk that
    is not mounted. Any other location is a `UsageError`.
    """
    path = _directory(location)
    return LocalStorage.create(path) if create else LocalStorage(path)


def _directory(location: str) -> Path:
    address = urlsplit(location) if location.startswith("file:") else None
    path = Path(unquote(address.path) if address else location)
    if not path.is_absolute() or "\0" in location or (address and address.netloc not in ("", "localhost")):
        raise UsageError(
            f"not a storage location: {location!r}",
            hint="give the absolute path of a directory, such as /backups or file:///backups",
        )
    return path
