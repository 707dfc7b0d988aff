"""Write a snapshot, or a part of it, somewhere else than into a volume."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from backupd.errors import StreamRejected, UsageError
from backupd.operations.show import show
from backupd.progress import Progress, Tally
from backupd.repository import Repository
from backupd.repository.stream.index import IndexEntry
from backupd.repository.stream.tarstream import BLOCK, padding, read_head
from backupd.snapshot import Manifest
from backupd.storage.base import Buffer

_TRAILER = bytes(2 * BLOCK)
_BLOCK_BYTES = 1024 * 1024


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
        _write_file(_part(reader.stream(cancel, entry.first, entry.last), iter([entry])), out)
    elif entry.type == "directory":
        stream = reader.stream(cancel, entry.first)
        with contextlib.closing(stream):
            _write(_part(stream, chain([entry], entries)), out, progress, None)
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
    with tarfile.open(fileobj=io.BufferedReader(_Stream(stream)), mode="r|") as tar:
        member = tar.next()
        content = tar.extractfile(member) if member else None
        if content is None:
            raise StreamRejected("the member is no file")
        shutil.copyfileobj(content, out)


def _part(chunks: Iterator[bytes], entries: Iterator[IndexEntry]) -> Iterator[bytes]:
    """A tar stream of these entries alone; `chunks` begin with the chunk that holds the first one's head."""
    stream = io.BufferedReader(_Stream(chunks))
    at = None
    for entry in entries:
        before = entry.skip if at is None else entry.offset - at
        for _ in _blocks(stream, before):
            pass
        head = b"".join(_blocks(stream, BLOCK))
        while (member := read_head(memoryview(head), 0)) is None:
            head += b"".join(_blocks(stream, BLOCK))
        yield head
        yield from _blocks(stream, member.data_bytes)
        yield bytes(padding(member.data_bytes))
        at = entry.offset + len(head) + member.data_bytes
    yield _TRAILER


def _blocks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """The next `size` bytes in pieces; `StreamRejected` if there are fewer."""
    while size:
        if not (block := stream.read(min(size, _BLOCK_BYTES))):
            raise StreamRejected("the snapshot's index and its tar stream disagree")
        size -= len(block)
        yield block


class _Stream(io.RawIOBase):
    """An iterator of bytes as a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:  # type: ignore[override]
        """Fill the beginning of `buffer`; 0 at the end."""
        while not self._rest:
            if (block := next(self._blocks, None)) is None:
                return 0
            self._rest = memoryview(block)
        view = memoryview(buffer)
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
