"""Where a tar stream is cut into chunks (docs/FORMAT.md, "Cut points")."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator

from backupd.errors import BackupdError, StreamRejected
from backupd.repository.stream.tarstream import BLOCK, padding
from backupd.repository.stream.walk import KIB, Large, Listing, Walk, walk

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its fallback to pure Python, which is refused below
    import pyfastcdc

PAGE_CHUNK = 256 * KIB
CDC_MIN, CDC_AVERAGE, CDC_MAX = 256 * KIB, 1024 * KIB, 4096 * KIB
CHUNK_MAX = 5 * KIB * KIB
"""No chunk is larger: a group of GROUP_MAX and one head, or CDC_MAX."""

PAGED = re.compile(
    rb"(^|/)(base|global|pg_wal|pg_xlog|PG_\d+_\d+/\d+)/([0-9]+/)?[0-9A-Fa-f]+(_[a-z]+)?(\.[0-9]+)?$"
    rb"|(^|/)(ibdata[0-9]+|ib_logfile[0-9]+|#ib_redo[0-9]+|undo_[0-9]+)$"
    rb"|\.(ibd|ibu|MYD|wt|db|db3|sqlite|sqlite3|mdb|qcow2|img|raw|vmdk|vdi|vhd|vhdx)$"
)
"""Files rewritten in place: PostgreSQL relations and log, InnoDB, WiredTiger, SQLite, LMDB, disk images."""

Listed = Callable[[Listing], None]
"""Called with the members of the stream in its order, many or few at a time."""


def require_native() -> None:
    """Refuse to work with pyfastcdc's fallback in pure Python, which is 200 times slower."""
    if not pyfastcdc.FastCDC.__module__.startswith("pyfastcdc.cy"):
        raise BackupdError(
            "pyfastcdc has no native extension on this machine",
            hint="install a wheel of it, or a C compiler before `pip install --force-reinstall pyfastcdc`",
        )


class Cutter:
    """Cuts one tar stream, handed over as windows that each begin at the first byte not yet cut.

    The cuts depend on the stream alone, not on how it was divided into windows. No chunk is longer than
    CHUNK_MAX: a window of that size always makes progress.
    """

    def __init__(self, listed: Listed, walk: Walk = walk) -> None:
        self._listed = listed
        self._walk = walk
        self._fastcdc = pyfastcdc.FastCDC(
            CDC_AVERAGE, min_size=CDC_MIN, max_size=CDC_MAX, normalized_chunking=1, seed=0
        )
        self._offset = 0  # of the window in the stream
        self._ordinal = 0  # of the next chunk
        self._scanned = 0  # bytes of the open group that are accounted for; may reach beyond the window
        self._closed = False  # the open group ends there
        self._trailer = False  # the end-of-archive blocks have begun
        self._large: Large | None = None  # whose data is next
        self._left = 0  # bytes of that data not yet cut

    def cut(self, window: memoryview, *, last: bool) -> Iterator[int]:
        """Ends of the chunks in `window` that are certain; with `last`, the stream ends with the window.

        `StreamRejected` if this is not a tar stream, or one that ends before its end-of-archive blocks.
        """
        at, before = 0, -1
        while at != before:
            before = at
            for end in self._data_ends(window, at) if self._large else self._group_ends(window, at):
                at = end
                yield end
        self._offset += at
        if last:
            self._check_trailer(window[at:])
            yield len(window)
        elif len(window) - at > CHUNK_MAX:
            raise StreamRejected("the tar stream goes on after its end")

    def _group_ends(self, window: memoryview, at: int) -> Iterator[int]:
        """The ends of the groups from `at` on that the window has."""
        while not self._large and not self._trailer:
            if self._closed:
                if at + self._scanned > len(window):
                    return
                at += self._scanned
                self._ordinal += 1
                self._closed, self._scanned = False, 0
                yield at
            walked = self._walk(window, at, self._scanned, self._offset, self._ordinal)
            self._listed(walked.listing)
            halted = not walked.ends and walked.size == self._scanned
            self._scanned, self._closed, self._trailer = walked.size, walked.closed, walked.trailer
            if walked.large:
                self._large, self._left = walked.large, walked.large.member.data_bytes
            self._ordinal += len(walked.ends)
            for at in walked.ends:
                yield at
            if halted:
                return

    def _data_ends(self, window: memoryview, at: int) -> Iterator[int]:
        """The ends of the chunks of a large member's data that the window has for certain."""
        assert self._large is not None  # noqa: S101  the caller asked
        large, member = self._large, self._large.member
        data = window[at : at + self._left]
        whole = len(data) == self._left
        pieces = _page_ends(data) if PAGED.search(member.path) else self._content_ends(data)
        done = 0
        for end in pieces:
            if end == len(data) and not whole:
                break
            self._left -= end - done
            done = end
            if not self._left:
                self._listed(large.listing(self._ordinal))
                self._large, self._scanned = None, padding(member.data_bytes)
            self._ordinal += 1
            yield at + end

    def _content_ends(self, data: memoryview) -> Iterator[int]:
        return (chunk.offset + chunk.length for chunk in self._fastcdc.cut_buf(data))

    def _check_trailer(self, rest: memoryview) -> None:
        if not self._trailer or len(rest) < 2 * BLOCK:
            raise StreamRejected(
                "the tar stream is cut short", hint="the helper died or was stopped: try again"
            )
        if bytes(rest).strip(b"\0"):
            raise StreamRejected("the tar stream goes on after its end")


def _page_ends(data: memoryview) -> Iterator[int]:
    yield from range(PAGE_CHUNK, len(data), PAGE_CHUNK)
    if len(data):
        yield len(data)
