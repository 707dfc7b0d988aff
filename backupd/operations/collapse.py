"""Notice that a volume has lost nearly everything, so that what it held is not forgotten on top of that."""

from __future__ import annotations

from collections.abc import Mapping

from backupd.snapshot import Manifest

_MEMBER_BYTES = 512
"""What a member weighs beside its content: many small files are much, one file of a few bytes is not."""


def collapsed_from(
    members: Mapping[str, int], content_bytes: int, earlier: Manifest | None
) -> Manifest | None:
    """The earlier snapshot, if nothing but the root directory is left of it, or less than a hundredth."""
    if earlier is None:
        return None
    emptied = sum(members.values()) <= 1 < sum(earlier.members.values())
    left = _weight(members, content_bytes)
    before = _weight(earlier.members, earlier.bytes.content)
    return earlier if emptied or left * 100 <= before else None


def warning(volume: str, members: Mapping[str, int], content_bytes: int, earlier: Manifest) -> str:
    """What a person should know, and do."""
    left = f"{sum(members.values())} members of {content_bytes} bytes"
    before = f"{sum(earlier.members.values())} of {earlier.bytes.content} bytes"
    return (
        f"the volume has collapsed: it holds {left}, and {before} in snapshot {earlier.snapshot}; "
        f"no snapshot of it is forgotten until this one is: {hint(volume)}"
    )


def hint(volume: str) -> str:
    """The way out."""
    return (
        f"if that is right: backupd forget {volume} --accept-collapse; "
        f"if not, restore an earlier snapshot: backupd snapshots {volume}"
    )


def _weight(members: Mapping[str, int], content_bytes: int) -> int:
    return content_bytes + _MEMBER_BYTES * sum(members.values())
