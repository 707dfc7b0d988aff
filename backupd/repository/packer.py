"""Packs as they are filled and put: the chunks of one snapshot in the order of its stream."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from backupd.errors import RepositoryError
from backupd.repository.chunks import Prepared
from backupd.repository.known import Known
from backupd.repository.lists import LIMIT_SLICES
from backupd.repository.sidecar import SidecarWriter
from backupd.repository.slices import PACK_BYTES, Slice, new_list, new_pack
from backupd.storage.base import Storage

PUTS = 6
"""So many packs at most are being put at once: each takes its size of memory."""

LIST_PACKS = 256
"""After so many packs a slice list is put: what a run that dies has stored up to there, the next one uses."""


class Packer:
    """A context that puts chunks into packs, and lists what they hold; one thread may use it.

    A chunk is known to others only when its pack is durable: the slice list comes after it.
    """

    def __init__(self, storage: Storage, known: Known, owner: str, *, readers: int = 1) -> None:
        """`owner` is the snapshot's `<host>/<volume>/<snapshot>`; it shares memory with so many `readers`."""
        self._storage = storage
        self._known = known
        self._owner = owner
        self._puts = max(1, min(PUTS // readers, storage.concurrency))
        self._pack_bytes = PACK_BYTES if readers == 1 else PACK_BYTES // 2
        self._pool = ThreadPoolExecutor(self._puts, thread_name_prefix="packs")
        self._pending: deque[Future[None]] = deque()
        self._key = new_pack(owner)
        # Frames are copied at once: each would keep from the allocator what its compressor had asked for.
        self._data = bytearray()
        self._packs = self._slices = 0  # since the last slice list

    def __enter__(self) -> Packer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)

    def add(self, chunk: Prepared) -> tuple[Slice, int]:
        """Where the chunk lies, and how many bytes storing it takes: 0 where it was there already."""
        if chunk.known:
            return chunk.known, 0
        # Its twin may have passed since a worker looked.
        if twin := self._known.find_own(chunk.chunk):
            return twin, 0
        assert chunk.frame is not None  # noqa: S101  what is not known was encoded
        new = Slice(self._key, len(self._data), len(chunk.frame), chunk.chunk)
        self._known.add_own(new)
        self._data += chunk.frame
        self._slices += 1
        if len(self._data) >= self._pack_bytes or self._slices >= LIMIT_SLICES:
            self._close_pack()
        if self._packs >= LIST_PACKS or self._slices >= LIMIT_SLICES:
            self._put_list()
        return new, new.length

    def finish(self) -> None:
        """Have all packs stored durably, and the slice list that names the last of them stored."""
        if self._data:
            self._close_pack()
        if self._slices:
            self._put_list()

    def _close_pack(self) -> None:
        while len(self._pending) >= self._puts:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._put, self._key, self._data))
        self._packs += 1
        self._key, self._data = new_pack(self._owner), bytearray()

    def _put(self, key: str, data: bytearray) -> None:
        if not self._storage.put(key, data):
            raise RepositoryError(f"{key} exists already", hint="run the backup again")

    def _put_list(self) -> None:
        while self._pending:
            self._pending.popleft().result()
        self._storage.flush()
        key = new_list(self._owner)
        with SidecarWriter() as lines:
            for each in self._known.own():
                lines.add(each.line())
            lines.put(self._storage, key)
        self._known.publish(key)
        self._packs = self._slices = 0
