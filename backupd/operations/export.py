"""Write a snapshot, or a part of it, somewhere else than into a volume."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from typing import BinaryIO

from backupd.errors import StreamRejected, UsageError
from backupd.operations.parts import ByteStream, chosen, cut_out, select
from backupd.operations.show import show
from backupd.progress import Progress, Tally
from backupd.repository import Repository
from backupd.snapshot import Manifest


def export(
    repository: Repository,
    manifest: Manifest,
    path: str | None,
    out: BinaryIO,
    *,
    progress: Progress,
    cancel: threading.Event,
) -> None:
    """Write the snapshot's tar stream to `out`; with a `path`, that directory as a tar stream, or that file.

    Only the chunks that hold the part are read.
    """
    reader = repository.reader(manifest)
    if path is None:
        _write(reader.stream(cancel), out, progress, manifest.bytes.tar)
        return
    entries = show(repository, manifest, path)
    entry = next(entries)
    if entry.type == "hardlink":
        entry = next(show(repository, manifest, os.fsdecode(entry.target)))
    if entry.type == "file":
        with contextlib.closing(reader.stream(cancel, entry.first, entry.last)) as chunks:
            _write_file(cut_out(chunks, [entry]), out)
    elif entry.type == "directory":
        _write(chosen(reader, select(reader, [path]), cancel), out, progress, None)
    else:
        raise UsageError(f"{path} is neither a file nor a directory but a {entry.type}")


def _write(stream: Iterator[bytes], out: BinaryIO, progress: Progress, total: int | None) -> None:
    done = 0
    for block in stream:
        out.write(block)
        done += len(block)
        progress(Tally(done, bytes_total=total))


def _write_file(stream: Iterator[bytes], out: BinaryIO) -> None:
    # tarfile knows how to fill the holes of a sparse file.
    with tarfile.open(fileobj=io.BufferedReader(ByteStream(stream)), mode="r|") as tar:
        member = tar.next()
        content = tar.extractfile(member) if member else None
        if content is None:
            raise StreamRejected("the member is no file")
        shutil.copyfileobj(content, out)
