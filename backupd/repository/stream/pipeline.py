"""From a tar stream to chunks that can be stored: one thread reads, one cuts, many hash and compress.

Memory is a fixed ring of buffers. While the reader fills one, chunks that are views into others are at work;
what a window leaves uncut is copied into the head room of the next, so that a chunk is always one contiguous
view and its bytes are otherwise never copied.
"""

from __future__ import annotations

import mmap
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from backupd.errors import Interrupted
from backupd.repository.stream.chunker import CHUNK_MAX, Cutter
from backupd.storage.base import CORES

T = TypeVar("T")

FILL_BYTES = 4 * 1024 * 1024
BUFFERS = 5
BUFFERS_AMONG_OTHERS = 3
"""Where several streams are read: one buffer that is filled, one that is cut, one whose chunks are stored."""

BATCH_BYTES = 1024 * 1024
"""Small chunks go to the workers together, so many bytes at a time: a hand-over is a fight for the GIL."""


class Source(Protocol):
    """A stream to read from: `readinto` fills the beginning of a buffer and says how much; 0 is the end."""

    def readinto(self, buffer: memoryview) -> int: ...


class Pipeline(Generic[T]):
    """Prepares the chunks of one stream: `prepare` is called for each, by a thread for each core."""

    def __init__(self, prepare: Callable[[memoryview], T], cutter: Cutter, *, readers: int = 1) -> None:
        """`readers` is how many streams this process reads at once, of which this is one."""
        self._prepare = prepare
        self._cutter = cutter
        self._free: queue.SimpleQueue[_Buffer | None] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[_Buffer | None] = queue.SimpleQueue()
        self._pending: deque[Future[list[T]]] = deque()
        self._window: _Buffer | None = None
        self._rest = memoryview(b"")
        # Beside others each takes less; together they take hardly more, and keep all cores at work.
        self._workers = max(1, min(CORES, 2 * CORES // readers))
        fill_bytes = FILL_BYTES if readers == 1 else FILL_BYTES // 2
        for _ in range(BUFFERS if readers == 1 else BUFFERS_AMONG_OTHERS):
            self._free.put(_Buffer(self._free, fill_bytes))

    def run(self, source: Source, *, at_end: Callable[[], None], cancel: threading.Event) -> Iterator[T]:
        """What was made of the stream's chunks, in order. Who is slow to take it slows down the reading.

        `at_end` is called in the reader's thread as soon as the stream has ended, while work goes on. What
        the source, `at_end` or `prepare` raises ends the run, as does `cancel`, with `Interrupted`.
        """
        with ThreadPoolExecutor(1 + self._workers, thread_name_prefix="pipeline") as pool:
            reader = pool.submit(self._read, source, at_end)
            try:
                for buffer in iter(self._full.get, None):
                    if cancel.is_set():
                        raise Interrupted("the backup was told to stop")
                    self._cut(buffer, pool)
                    yield from self._settled()
                reader.result()
                while self._pending:
                    yield from self._pending.popleft().result()
            finally:
                self._free.put(None)
                pool.shutdown(wait=True, cancel_futures=True)
                self._let_go()

    def _let_go(self) -> None:
        """Break the circle of queue and buffers: their memory must not wait for the garbage collector."""
        self._pending.clear()
        self._window, self._rest = None, memoryview(b"")
        for ring in (self._free, self._full):
            while not ring.empty():
                ring.get()

    def _read(self, source: Source, at_end: Callable[[], None]) -> None:
        try:
            for buffer in iter(self._free.get, None):
                buffer.fill(source)
                if buffer.last:
                    at_end()
                self._full.put(buffer)
                if buffer.last:
                    return
        finally:
            self._full.put(None)

    def _cut(self, buffer: _Buffer, pool: ThreadPoolExecutor) -> None:
        window = buffer.window(self._rest)
        if self._window is not None:
            self._window.release()
        self._window, at, first, batch = buffer, 0, 0, []
        for end in self._cutter.cut(window, last=buffer.last):
            batch.append(window[at:end])
            at = end
            if at - first >= BATCH_BYTES:
                self._submit(batch, buffer, pool)
                first, batch = at, []
        if batch:
            self._submit(batch, buffer, pool)
        self._rest = window[at:]

    def _submit(self, batch: Sequence[memoryview], buffer: _Buffer, pool: ThreadPoolExecutor) -> None:
        buffer.hold()
        self._pending.append(pool.submit(self._work, batch, buffer.release))

    def _work(self, batch: Sequence[memoryview], read: Callable[[], None]) -> list[T]:
        try:
            return [self._prepare(data) for data in batch]
        finally:
            read()

    def _settled(self) -> Iterator[T]:
        while self._pending and self._pending[0].done():
            yield from self._pending.popleft().result()


class _Buffer:
    """Memory for one window: head room for what the window before left, then room to read into.

    Counts who looks at it, and goes back to the free ones with the last.
    """

    def __init__(self, free: queue.SimpleQueue[_Buffer | None], fill_bytes: int) -> None:
        self._free = free
        # Anonymous pages, not a bytearray: a small volume touches few of them, and they go back at once.
        self._memory = memoryview(mmap.mmap(-1, CHUNK_MAX + fill_bytes))
        self._filled = 0
        self._users = 0
        self._lock = threading.Lock()
        self.last = False

    def fill(self, source: Source) -> None:
        """Read until the buffer is full or the stream has ended; `last` tells which."""
        self._filled, self._users = CHUNK_MAX, 1
        while self._filled < len(self._memory):
            count = source.readinto(self._memory[self._filled :])
            if not count:
                self.last = True
                return
            self._filled += count

    def window(self, rest: memoryview) -> memoryview:
        """What was read, with `rest` copied before it."""
        start = CHUNK_MAX - len(rest)
        self._memory[start:CHUNK_MAX] = rest
        return self._memory[start : self._filled]

    def hold(self) -> None:
        """Count one more user."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Count one user less."""
        with self._lock:
            self._users -= 1
            unused = not self._users
        if unused:
            self._free.put(self)
