"""The walk over small members: where groups end, and the lines of the index (docs/FORMAT.md, "Cut points").

`walk_python` says what is right. `_walk.c` does the same, byte for byte, with the GIL released; it is built
where there is a C compiler. It stops before all that is not an ordinary small member, and Python takes over.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from backupd.repository.stream import index
from backupd.repository.stream.tarstream import BLOCK, TYPES, Member, is_trailer, padding, read_head

KIB = 1024
LARGE = 256 * KIB
GROUP_MIN, GROUP_MAX = 16 * KIB, 256 * KIB
GROUP_CLOSE = 32 * KIB


@dataclass(slots=True)
class Listing:
    """Members in bulk: their lines for the index, how many of each type, the sum of their sizes."""

    lines: bytes = b""
    counts: Counter[str] = field(default_factory=Counter)
    content_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Large:
    """A large member, whose data is next: where its head begins in the stream, in which chunk, how far in."""

    member: Member
    offset: int
    chunk: int
    skip: int

    def listing(self, last: int) -> Listing:
        """The member, now that the chunk is known which its data ends in."""
        line = index.encode(self.member, self.offset, self.chunk, last, self.skip) + b"\n"
        return Listing(line, Counter({self.member.type: 1}), self.member.size)


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk has found: the ends of groups in the window, and the group that was open when it stopped.

    Of that one, `size` bytes are accounted for, which may reach beyond the window; with `closed`, nothing
    more belongs to it. If neither `large` nor `trailer` stopped the walk, it needs more bytes, or to be asked
    again.
    """

    ends: list[int]
    size: int
    closed: bool
    listing: Listing
    large: Large | None = None
    trailer: bool = False


class Walk(Protocol):
    """Walks on from a group that begins at `start` in the window and has `size` bytes so far.

    `offset` is that of the window in the stream, `chunk` the ordinal of the group. `StreamRejected` where
    there is no member.
    """

    def __call__(self, window: memoryview, start: int, size: int, offset: int, chunk: int) -> Walked: ...


def closes_group(path: bytes, member_bytes: int) -> bool:
    """Whether a group of at least GROUP_MIN ends after this member: a matter of its path and size alone."""
    return int.from_bytes(hashlib.sha256(path).digest()[:4], "big") * GROUP_CLOSE < member_bytes << 32


def walk_python(window: memoryview, start: int, size: int, offset: int, chunk: int) -> Walked:
    """The walk as it should be; see `Walk`."""
    ends: list[int] = []
    lines: list[bytes] = []
    listing = Listing()
    closed = False
    while True:
        scan = start + size
        if closed and scan <= len(window):
            ends.append(scan)
            start, size, closed = scan, 0, False
        if closed or len(window) - scan < BLOCK:
            break
        if is_trailer(window, scan):
            return Walked([*ends, scan] if size else ends, 0, False, _listed(listing, lines), trailer=True)
        if (member := read_head(window, scan)) is None:
            break
        place = chunk + len(ends)
        if member.data_bytes >= LARGE:
            large = Large(member, offset + scan, place, size)
            return Walked([*ends, scan + member.head_bytes], 0, False, _listed(listing, lines), large)
        length = member.head_bytes + member.data_bytes + padding(member.data_bytes)
        if size >= GROUP_MIN and size + length > GROUP_MAX:
            closed = True
            continue
        lines.append(index.encode(member, offset + scan, place, place, size))
        listing.counts[member.type] += 1
        listing.content_bytes += member.size
        size += length
        closed = size >= GROUP_MIN and closes_group(member.path, length)
    return Walked(ends, size, closed, _listed(listing, lines))


def _listed(listing: Listing, lines: list[bytes]) -> Listing:
    listing.lines = b"".join(line + b"\n" for line in lines)
    return listing


Native = Callable[[memoryview, int, int, int, int], tuple[list[int], int, bool, bytes, tuple[int, ...], int]]
"""`_walk.walk`: ends, size, closed, lines, counts in the order of TYPES, content bytes."""


def _load() -> Native | None:
    try:
        from backupd.repository.stream import _walk
    except ImportError:
        return None
    return _walk.walk


native = _load()
"""The walk in C, None where it was not built."""


def walk_native(window: memoryview, start: int, size: int, offset: int, chunk: int) -> Walked:
    """The walk in C as far as that goes, and where it does not go at all, in Python; see `Walk`."""
    assert native is not None  # noqa: S101  only called where there is one
    ends, open_size, closed, lines, counts, content_bytes = native(window, start, size, offset, chunk)
    if not lines and not ends:
        return walk_python(window, start, size, offset, chunk)
    by_type = Counter({kind: count for kind, count in zip(TYPES, counts, strict=True) if count})
    return Walked(ends, open_size, closed, Listing(lines, by_type, content_bytes))


walk: Walk = walk_native if native else walk_python
