"""What the reading of a volume was worth: the truth about what it claims to be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from backupd.engine.helper import TarResult
from backupd.engine.quiesce import Report
from backupd.errors import HelperFailed
from backupd.snapshot import Consistency, Quiesced
from backupd.volume import Volume

NAMES_MAX = 10
"""A manifest names at most so many of the files that changed."""

_OWN_FILE_SYSTEMS = frozenset(
    ("", "none", "bind", "tmpfs", "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay")
)
"""What the driver `local` mounts from this machine, as its option `type` names it."""


@dataclass(frozen=True)
class Stillness:
    """A quiet that is over: from when to when, and who stood still in it and how."""

    began: datetime
    ended: datetime
    report: Report


@dataclass(frozen=True)
class Verdict:
    """What can be said of a reading; `degraded` are post hooks that failed after it."""

    consistency: Consistency
    quiesced: Quiesced
    began: datetime
    ended: datetime
    changed: bool
    sockets: int
    warnings: tuple[str, ...]
    degraded: tuple[str, ...]


def judge(volume: Volume, result: TarResult, stillness: Stillness, *, named: bool) -> Verdict:
    """What tar's end and the quiet come to; `HelperFailed` for a change that nobody can have made.

    `named`: whether files that changed may be named.
    """
    report, foreign, changed = stillness.report, others_may_write(volume), bool(result.exit_code)
    if changed and not foreign and report.still(volume.name):
        raise HelperFailed(
            f"files of {volume.name} changed while they were read, though nothing that mounts it ran: "
            + "; ".join(result.messages[:NAMES_MAX]),
            hint="something outside the engine writes to the volume: stop it, or set quiesce to none",
        )
    return Verdict(
        consistency="fuzzy" if changed or foreign else report.consistency(volume.name),
        quiesced=report.quiesced(volume.name),
        began=stillness.began,
        ended=stillness.ended,
        changed=changed,
        sockets=sum(_is_socket(message) for message in result.messages),
        warnings=(*_words(result, named=named), *report.warnings(volume.name), *_shared(foreign)),
        degraded=report.degraded,
    )


def others_may_write(volume: Volume) -> str | None:
    """Why machines that this engine does not see may write to the volume; None where they cannot.

    Nobody can say what such a volume was at one time.
    """
    if volume.driver != "local":
        return f"driver {volume.driver}"
    kind = volume.options.get("type", "").lower()
    return None if kind in _OWN_FILE_SYSTEMS else f"file system {kind}"


def _shared(foreign: str | None) -> Iterator[str]:
    if foreign:
        yield f"others may have written to the volume while it was read: {foreign}"


def _words(result: TarResult, *, named: bool) -> list[str]:
    words = [message for message in result.messages if not _is_socket(message)]
    if words and not named:
        return [f"tar had {len(words)} messages, which name files and are not kept"]
    return words[:NAMES_MAX]


def _is_socket(message: str) -> bool:
    return message.endswith("socket ignored")
