"""Whether what lies in a volume is a snapshot, to the byte."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from backupd.engine.helper import TarOutput, export
from backupd.errors import ProofFailed
from backupd.operations.context import Context
from backupd.progress import Progress, Tally
from backupd.repository.reader import SnapshotReader
from backupd.repository.stream.tarstream import BLOCK
from backupd.snapshot import Manifest

_BUFFER_BYTES = 1024 * 1024


def prove(
    context: Context,
    manifest: Manifest,
    volume: str,
    *,
    below: str = "",
    progress: Progress,
    cancel: threading.Event,
) -> None:
    """Tar the volume, or a directory in it, again, and compare with the snapshot's stream.

    The same tree gives the same bytes, so a difference means that it is another tree: `ProofFailed` names the
    first member that differs. It cannot tell where the snapshot was made by another tar: `ProofFailed` too.
    """
    reader = context.repository.reader(manifest)
    same = 0
    with export(
        context.engine,
        volume,
        context.image,
        instance=context.instance,
        run=manifest.snapshot,
        fifo_dir=context.fifo_dir,
        cancel=cancel,
        below=below,
    ) as output:
        found = _blocks(output)
        rest = memoryview(b"")
        for content in reader.stream(cancel):
            expected = memoryview(content)
            while expected:
                rest = rest or next(found, memoryview(b""))
                size = min(len(rest), len(expected))
                if not size or rest[:size] != expected[:size]:
                    at = same + _first_difference(rest[:size], expected[:size])
                    raise _differs(context, manifest, reader, volume, at)
                rest, expected, same = rest[size:], expected[size:], same + size
            progress(Tally(same, bytes_total=manifest.bytes.tar))
        if rest or next(found, memoryview(b"")):
            raise _differs(context, manifest, reader, volume, same)


def _blocks(output: TarOutput) -> Iterator[memoryview]:
    """What tar writes; each block is good until the next is asked for."""
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    while size := output.readinto(buffer):
        yield buffer[:size]


def _first_difference(found: memoryview, expected: memoryview) -> int:
    """The block of tar in which they differ first, in bytes from the beginning."""
    blocks = range(0, len(found), BLOCK)
    return next((at for at in blocks if found[at : at + BLOCK] != expected[at : at + BLOCK]), 0)


def _differs(
    context: Context, manifest: Manifest, reader: SnapshotReader, volume: str, at: int
) -> ProofFailed:
    path = b"."
    for entry in reader.members():
        if entry.offset > at:
            break
        path = entry.path
    made, here = manifest.tar, context.image
    if (made.kind, made.version, made.flags) == (here.tar, here.version, here.flags):
        hint = "the snapshot itself is whole: look at the disk that the volume lies on"
    else:
        hint = (
            f"the snapshot was made with {made.kind} tar {made.version}, and this helper has {here.version}"
        )
    return ProofFailed(
        f"volume {volume} is not what snapshot {manifest.snapshot} holds: "
        f"{path.decode(errors='replace')!r} is the first difference",
        hint=hint,
    )
