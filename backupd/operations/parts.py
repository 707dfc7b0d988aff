"""Parts of a snapshot: the members that a person names, as a tar stream, read from their own chunks alone."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

from backupd.errors import SnapshotNotFound, StreamRejected
from backupd.operations.show import normalise
from backupd.repository.reader import SnapshotReader
from backupd.repository.stream.index import IndexEntry
from backupd.repository.stream.tarstream import BLOCK, padding, read_head
from backupd.storage.base import Buffer

_TRAILER = bytes(2 * BLOCK)
_BLOCK_BYTES = 1024 * 1024
_RUN_ENTRIES = 4096
"""At most so many members are held in memory at a time."""


@dataclass(frozen=True)
class Selection:
    """What was chosen of a snapshot: how many members, their bytes, and what hard links bring `along`."""

    patterns: tuple[re.Pattern[bytes], ...]
    along: frozenset[bytes]
    members: int
    size_bytes: int

    def holds(self, entry: IndexEntry) -> bool:
        """Whether the member was chosen."""
        path = entry.path.rstrip(b"/")
        return path in self.along or any(pattern.match(path) for pattern in self.patterns)


def select(reader: SnapshotReader, paths: Sequence[str]) -> Selection:
    """Choose files, directories with all below, and globs: `*` within a name, `**` across directories.

    A hard link brings the file along that it is a link to. `SnapshotNotFound` where a path fits nothing.
    """
    patterns = tuple(_pattern(path) for path in paths)
    unused = set(range(len(patterns)))
    along: set[bytes] = set()
    members = size_bytes = 0
    for entry in reader.members():
        fitting = [n for n, pattern in enumerate(patterns) if pattern.match(entry.path.rstrip(b"/"))]
        if not fitting:
            continue
        unused.difference_update(fitting)
        members, size_bytes = members + 1, size_bytes + entry.size
        if entry.type == "hardlink":
            along.add(entry.target.rstrip(b"/"))
    if unused:
        snapshot = reader.manifest.snapshot
        raise SnapshotNotFound(
            f"snapshot {snapshot} has no {paths[min(unused)]}", hint=f"see `backupd show {snapshot}`"
        )
    return Selection(patterns, frozenset(along), members, size_bytes)


def chosen(reader: SnapshotReader, selection: Selection, cancel: threading.Event) -> Iterator[bytes]:
    """The tar stream of the chosen members, in the order of the snapshot."""
    entries = (entry for entry in reader.members() if selection.holds(entry))
    for run in _runs(entries):
        with closing(reader.stream(cancel, run[0].first, run[-1].last)) as chunks:
            yield from cut_out(chunks, run)
    yield _TRAILER


def cut_out(chunks: Iterator[bytes], entries: Iterable[IndexEntry]) -> Iterator[bytes]:
    """The heads and contents of these members; `chunks` begin with the one that the first head is in."""
    stream = io.BufferedReader(ByteStream(chunks))
    at = None
    for entry in entries:
        for _ in _blocks(stream, entry.skip if at is None else entry.offset - at):
            pass
        head = b"".join(_blocks(stream, BLOCK))
        while (member := read_head(memoryview(head), 0)) is None:
            head += b"".join(_blocks(stream, BLOCK))
        yield head
        yield from _blocks(stream, member.data_bytes)
        yield bytes(padding(member.data_bytes))
        at = entry.offset + len(head) + member.data_bytes


class ByteStream(io.RawIOBase):
    """An iterator of bytes as a file to read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
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


def _runs(entries: Iterator[IndexEntry]) -> Iterator[list[IndexEntry]]:
    """Members that lie in neighbouring chunks, together."""
    run: list[IndexEntry] = []
    for entry in entries:
        if run and (entry.first > run[-1].last + 1 or len(run) == _RUN_ENTRIES):
            yield run
            run = []
        run.append(entry)
    if run:
        yield run


def _pattern(path: str) -> re.Pattern[bytes]:
    """What the paths of chosen members begin with."""
    pieces = re.split(rb"(\*\*|\*|\?)", normalise(path))
    signs = {b"**": rb".*", b"*": rb"[^/]*", b"?": rb"[^/]"}
    fit = b"".join(signs.get(piece) or re.escape(piece) for piece in pieces)
    return re.compile(fit + rb"(?:/.*)?\Z", re.DOTALL)


def _blocks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """The next `size` bytes in pieces; `StreamRejected` if there are fewer."""
    while size:
        if not (block := stream.read(min(size, _BLOCK_BYTES))):
            raise StreamRejected("the snapshot's index and its tar stream disagree")
        size -= len(block)
        yield block
