"""Files on their way into a local storage: written, not yet under their names."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from backupd.storage.base import Buffer

HIDDEN = ".writing"
_LOCK = "lock"


@dataclass(frozen=True)
class Staged:
    """An object that is written whole, open, and waiting to become durable under its key."""

    key: str
    path: str
    descriptor: int
    size_bytes: int

    def discard(self) -> None:
        """Close and remove the temporary file; one that is gone already is no error."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108 - plain strings: this runs once a chunk
        os.close(self.descriptor)


class Staging:
    """One writer's own folder for temporary files, held by a lock for as long as the writer lives.

    The lock is the kernel's (flock), so it ends with its holder however that dies, and it means the same in
    every container and pid namespace that shares the directory, which no process id would. Folders without a
    holder are what dead writers left; the next writer removes them.
    """

    def __init__(self, root: str) -> None:
        parent = f"{root}/{HIDDEN}"
        os.makedirs(parent, 0o700, exist_ok=True)  # noqa: PTH103
        with _locked(f"{parent}/{_LOCK}"):
            _remove_abandoned(parent)
            self._folder = f"{parent}/{secrets.token_hex(8)}"
            os.mkdir(self._folder, 0o700)  # noqa: PTH102
            self._lock = _open_lock(f"{self._folder}/{_LOCK}")
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def write(self, key: str, blocks: Iterator[Buffer]) -> Staged:
        """A temporary file of these blocks; where that fails, nothing is left of it."""
        path = f"{self._folder}/{secrets.token_hex(8)}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        staged = Staged(key, path, descriptor, 0)
        try:
            size_bytes = sum(_write_all(descriptor, block) for block in blocks)
            start_writeback(descriptor)
        except BaseException:
            staged.discard()
            raise
        return Staged(key, path, descriptor, size_bytes)

    def close(self) -> None:
        """Remove the folder, then let go of the lock."""
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)


def start_writeback(descriptor: int) -> None:
    """Have the kernel write the file out now, without waiting, and drop those of its pages that are clean.

    By the time the batch is synced most of it is on the disk; and a backup does not push the pages of the
    user's database out of memory.
    """
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _write_all(descriptor: int, block: Buffer) -> int:
    view = memoryview(block).cast("B")
    written = 0
    while written < len(view):
        written += os.write(descriptor, view[written:])
    return written


def _open_lock(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(parent: str) -> None:
    with os.scandir(parent) as entries:
        folders = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for folder in folders:
        with suppress(OSError):  # another user's leftovers: theirs to remove
            if not _is_held(f"{folder}/{_LOCK}"):
                shutil.rmtree(folder)


def _is_held(path: str) -> bool:
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
