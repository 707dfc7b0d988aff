"""Chunks of many slices, fetched and decoded ahead: neighbours in one request, a bounded number of bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from backupd.errors import Interrupted, ObjectDamaged, StorageError
from backupd.repository.chunks import ChunkStore
from backupd.repository.slices import PACK_LIMIT_BYTES, Slice
from backupd.storage.base import CORES, Storage

GAP_BYTES = 128 * 1024
"""Neighbours that lie so near are read together: what is between costs less than another request."""

_AHEAD_BYTES = 32 * 1024 * 1024
_BATCH_BYTES = 512 * 1024
_BATCHES_AHEAD = min(4 * CORES, 12)
_CONTENT_BYTES = 4 * 1024 * 1024

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Span:
    """Slices of one pack that are read together, in the order in which they are wanted."""

    pack: str
    offset: int
    end: int
    slices: list[Slice] = field(default_factory=list)

    @property
    def length(self) -> int:
        """How many bytes are read."""
        return self.end - self.offset

    def takes(self, wanted: Slice) -> bool:
        """Add a slice, if it lies in these bytes or follows on them and no pack is smaller than all that."""
        end = max(self.end, wanted.end)
        fits = (
            wanted.pack == self.pack
            and self.offset <= wanted.offset <= self.end + GAP_BYTES
            and end - self.offset <= PACK_LIMIT_BYTES
        )
        if fits:
            self.end = end
            self.slices.append(wanted)
        return fits


def spans(slices: Iterable[Slice]) -> Iterator[Span]:
    """The slices, in their order, as spans."""
    span: Span | None = None
    for each in slices:
        if span is None or not span.takes(each):
            if span is not None:
                yield span
            span = Span(each.pack, each.offset, each.end, [each])
    if span is not None:
        yield span


@dataclass
class _Batch:
    """Slices of a span that is being fetched, to be decoded one after the other."""

    span: Span
    fetched: Future[bytes | None]
    slices: list[Slice]


@dataclass
class _Decoded:
    """Contents of the first slices of a batch; `rest` is left where they grew large."""

    contents: list[bytes]
    batch: _Batch
    rest: list[Slice]


class Fetch:
    """Reads the chunks of many slices."""

    def __init__(self, storage: Storage, chunks: ChunkStore) -> None:
        self._storage = storage
        self._chunks = chunks

    def contents(
        self, slices: Iterable[Slice], *, cancel: threading.Event, what: str
    ) -> Generator[bytes, None, None]:
        """The contents of the chunks, in order; `Interrupted` once `cancel` is set. See `ChunkStore.load`.

        Memory is bounded: so many bytes are fetched ahead, so many batches decoded ahead, and a batch whose
        contents grow large is decoded as they are taken.
        """
        threads = max(CORES, self._storage.concurrency)
        with (
            ThreadPoolExecutor(threads, thread_name_prefix="fetch") as fetching,
            ThreadPoolExecutor(CORES, thread_name_prefix="decode") as decoding,
        ):
            try:
                fetched = _ahead(
                    lambda span: (span, fetching.submit(self._fetch, span)),
                    spans(slices),
                    limit=threads,
                    weigh=lambda span: span.length,
                    limit_weight=_AHEAD_BYTES,
                )
                batches = (batch for span, data in fetched for batch in _batches(span, data))
                decoded = _ahead(
                    lambda batch: decoding.submit(self._decode, batch), batches, limit=_BATCHES_AHEAD
                )
                for future in decoded:
                    if cancel.is_set():
                        raise Interrupted(f"{what} was told to stop")
                    yield from self._taken(future.result())
            finally:
                for pool in (fetching, decoding):
                    pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, span: Span) -> bytes | None:
        """The bytes of a span; None where they cannot be had: then each slice is asked for by itself."""
        if span.length > PACK_LIMIT_BYTES:
            return None
        try:
            return self._storage.get_range(span.pack, span.offset, span.length)
        except (ObjectDamaged, StorageError):
            return None

    def _decode(self, batch: _Batch) -> _Decoded:
        contents: list[bytes] = []
        size = 0
        for place, each in enumerate(batch.slices):
            if size >= _CONTENT_BYTES:
                return _Decoded(contents, batch, batch.slices[place:])
            contents.append(self._content(batch, each))
            size += len(contents[-1])
        return _Decoded(contents, batch, [])

    def _taken(self, decoded: _Decoded) -> Iterator[bytes]:
        yield from decoded.contents
        for each in decoded.rest:
            yield self._content(decoded.batch, each)

    def _content(self, batch: _Batch, wanted: Slice) -> bytes:
        data = batch.fetched.result()
        if data is None or wanted.length > self._chunks.limit_bytes:
            return self._chunks.load(wanted)
        at = wanted.offset - batch.span.offset
        try:
            return self._chunks.decode(memoryview(data)[at : at + wanted.length], wanted)
        except ObjectDamaged:
            return self._chunks.load(wanted)


def _batches(span: Span, fetched: Future[bytes | None]) -> Iterator[_Batch]:
    batch, size = _Batch(span, fetched, []), 0
    for each in span.slices:
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = _Batch(span, fetched, []), 0
        batch.slices.append(each)
        size += each.length
    yield batch


def _ahead(
    submit: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    limit: int,
    weigh: Callable[[Item], int] = lambda item: 0,
    limit_weight: int = 1,
) -> Iterator[Result]:
    """What `submit` returns for each, called ahead: `limit` times, or until they weigh too much."""
    left = iter(items)
    pending: deque[tuple[Result, int]] = deque()
    weight = 0
    while True:
        while len(pending) < limit and weight < limit_weight and (item := next(left, None)) is not None:
            pending.append((submit(item), weigh(item)))
            weight += pending[-1][1]
        if not pending:
            return
        result, its = pending.popleft()
        weight -= its
        yield result
