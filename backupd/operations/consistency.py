"""What can truly be said of a volume that has been read: pure."""

from __future__ import annotations

from collections.abc import Sequence

from backupd.snapshot import Consistency
from backupd.volume import Volume

_STRENGTH: tuple[Consistency, ...] = ("fuzzy", "crash-consistent", "hooks", "clean-stop")
_OWN_FILE_SYSTEMS = (
    "",
    "none",
    "bind",
    "tmpfs",
    "ext2",
    "ext3",
    "ext4",
    "xfs",
    "btrfs",
    "zfs",
    "f2fs",
    "overlay",
)


def weakest(classes: Sequence[Consistency]) -> Consistency:
    """What holds where each container that can write was calmed as one of these says; none: clean-stop."""
    return min(classes, key=_STRENGTH.index, default="clean-stop")


def others_may_write(volume: Volume) -> str | None:
    """Why machines that this engine does not see may write to the volume; None where they cannot.

    Nobody can say what such a volume was at one time.
    """
    if volume.driver != "local":
        return f"driver {volume.driver}"
    kind = volume.options.get("type", "").lower()
    return None if kind in _OWN_FILE_SYSTEMS else f"file system {kind}"
