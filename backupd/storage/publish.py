"""Giving a finished file its final name, never over another one."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def publish(source: str, target: str, lock: str, link: Callable[[str, str], None] = os.link) -> None:
    """Let `target` name the file at `source`; `FileExistsError` where the name is taken.

    A hard link does that in one atomic step. File systems without them (exFAT, some network shares) get a
    rename while `lock` is held, which shuts out every writer that needs the same detour.
    """
    try:
        link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_alone(source, target, lock)


def make_parents(root: str, key: str) -> None:
    """Make the directories between `root`, which must exist, and the object, for their owner alone."""
    path = root
    for segment in key.split("/")[:-1]:
        path = f"{path}/{segment}"
        try:
            os.mkdir(path, 0o700)  # noqa: PTH102
        except FileExistsError:
            continue


def sync_directory(path: str, sync: Callable[[int], None]) -> None:
    """Make the names in the directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def _rename_alone(source: str, target: str, lock: str) -> None:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(source, target)  # noqa: PTH104
    finally:
        os.close(descriptor)
