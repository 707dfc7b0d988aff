"""The one door through which errors of the file system leave the storage package."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from backupd.errors import StorageError, StorageFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_HINTS = {
    errno.EIO: "the disk reports damage: look into the kernel log before trusting it with backups",
    errno.EROFS: "the file system is mounted read-only; after an error the kernel does that by itself",
    errno.EACCES: "give the user that backupd runs as the right to read and write there",
    errno.EPERM: "give the user that backupd runs as the right to read and write there",
    errno.ENOLCK: "the file system offers no locks; on NFS, see that the lock service runs",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


@contextmanager
def storage_errors(doing: str, directory: str) -> Iterator[None]:
    """Turn an `OSError` inside into the `StorageError` that says what was being done, and where."""
    try:
        yield
    except OSError as error:
        raise translated(error, doing, directory) from error


def translated(error: OSError, doing: str, directory: str) -> StorageError:
    """The same failure for a person: `StorageFull` where room ran out (disk, quota, or file size limit)."""
    if error.errno in _FULL:
        return StorageFull(
            f"no room left in {directory} to {doing}: {error.strerror}",
            hint=f"free some space on the disk that holds {directory}; everything stored before is untouched",
        )
    return StorageError(
        f"cannot {doing} in {directory}: {error.strerror or error}",
        hint=_HINTS.get(error.errno or 0, f"see that the disk that holds {directory} is mounted and healthy"),
    )
