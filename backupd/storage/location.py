"""From what a person writes as `storage` to the storage itself."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from backupd.errors import UsageError
from backupd.storage.base import Storage
from backupd.storage.keys import is_key
from backupd.storage.local import LocalStorage
from backupd.storage.retry import Retry, RetryingStorage
from backupd.storage.s3options import S3Options

if TYPE_CHECKING:
    from backupd.storage.s3 import S3Storage

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def open_storage(
    location: str,
    s3: S3Options,
    *,
    create: bool = False,
    cancel: threading.Event | None = None,
    on_retry: Callable[[Retry], None] = lambda retry: None,
) -> Storage:
    """The storage at `location`: an absolute directory, the same as `file://`, or `s3://bucket/prefix`.

    `create` makes the directory; without it a missing one is a `StorageError`, because it may be a disk that
    is not mounted. A bucket is never made, and whether it is there the first call tells. Any other location
    is a `UsageError`. What `cancel` and `on_retry` mean to a bucket says `RetryingStorage`.
    """
    if location.startswith("s3:"):
        return RetryingStorage(_open_s3(location, s3), cancel=cancel, on_retry=on_retry)
    path = _directory(location)
    return LocalStorage.create(path) if create else LocalStorage(path)


def advice(location: str, s3: S3Options) -> list[str]:
    """What would make the storage at `location` safer for backups, for the person who sets it up."""
    if not location.startswith("s3:"):
        return []
    storage = _open_s3(location, s3)
    try:
        return storage.advice()
    finally:
        storage.close()


def _open_s3(location: str, s3: S3Options) -> S3Storage:
    bucket, _, prefix = location.removeprefix("s3://").strip("/").partition("/")
    prefix = prefix.strip("/")
    if (
        not location.startswith("s3://")
        or not _BUCKET.fullmatch(bucket)
        or not (not prefix or is_key(prefix))
    ):
        raise UsageError(
            f"not a location in S3: {location!r}",
            hint="give s3://bucket or s3://bucket/prefix; the server's address is the setting s3.endpoint",
        )
    # boto3 takes its time to import, and most commands on a directory would not.
    from backupd.storage.s3 import S3Storage

    return S3Storage(bucket, prefix, s3)


def _directory(location: str) -> Path:
    address = urlsplit(location) if location.startswith("file:") else None
    path = Path(unquote(address.path) if address else location)
    if not path.is_absolute() or "\0" in location or (address and address.netloc not in ("", "localhost")):
        raise UsageError(
            f"not a storage location: {location!r}",
            hint="give the absolute path of a directory, such as /backups, or s3://bucket/prefix",
        )
    return path
