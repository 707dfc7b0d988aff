"""Group commit: many small files become durable with few waits for the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable

from backupd.errors import StorageError
from backupd.storage.diskerrors import translated
from backupd.storage.staging import Staged, start_writeback

BATCH_BYTES = 16 << 20
BATCH_OBJECTS = 64
LIMIT_OBJECTS = 256


class GroupCommit:
    """Syncs staged files in batches, then publishes each, in a thread that starts with the first of them.

    An object that could not be synced or published is gone: its file is removed, and it was never under its
    key. From then on `claim` and `drain` raise that failure, for ever: whoever shares this storage may have
    been told that the object is kept, and must not commit anything that names it. A new storage starts
    afresh.
    """

    def __init__(
        self,
        directory: str,
        *,
        sync: Callable[[int], None],
        publish: Callable[[Staged], None],
        limit_bytes: int,
    ) -> None:
        self._directory = directory
        self._sync = sync
        self._publish = publish
        self._limit_bytes = limit_bytes
        self._objects: dict[str, Staged | None] = {}  # None: claimed, still being written
        self._queue: list[Staged] = []
        self._uncommitted_bytes = 0
        self._urgent = 0
        self._closing = False
        self._failure: StorageError | None = None
        self._unsaid_failure: StorageError | None = None  # said when its object no longer counts as pending
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()

    def claim(self, key: str) -> bool:
        """Reserve the key for the caller's object, which `stage` must follow; False where one is pending.

        Waits while too much is uncommitted, and for another claim of the same key to come to something.
        """
        with self._changed:
            self._hurry(self._has_room)
            self._changed.wait_for(lambda: key not in self._objects or self._objects[key] is not None)
            self._raise_failure()
            if key in self._objects:
                return False
            self._objects[key] = None
            return True

    def stage(self, key: str, staged: Staged | None) -> None:
        """Take over the object written under a claim; None where nothing was written."""
        with self._changed:
            if staged is None:
                del self._objects[key]
                self._changed.notify_all()
                return
            self._objects[key] = staged
            self._queue.append(staged)
            self._uncommitted_bytes += staged.size_bytes
            self._start()
            self._changed.notify_all()

    def pending(self, key: str) -> Staged | None:
        """The object, if it is staged and not yet published."""
        return self._objects.get(key)

    def drain(self) -> None:
        """Wait until all that is staged now is durable and published; raises what prevented it."""
        with self._changed:
            staged = [item for item in self._objects.items() if item[1] is not None]
            self._hurry(lambda: all(self._objects.get(key) is not value for key, value in staged))

    def settle(self, key: str) -> None:
        """Wait until the object is published or has failed."""
        with self._changed:
            self._wait(lambda: self._objects.get(key) is None)

    def fail(self, failure: StorageError) -> None:
        """Refuse all further objects with this failure, or with the one that came before it."""
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()

    def close(self) -> None:
        """Publish what is staged, then end the thread; an object that fails is dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self.fail(StorageError(f"storage {self._directory} is closed"))

    def _has_room(self) -> bool:
        return self._uncommitted_bytes < self._limit_bytes and len(self._objects) < LIMIT_OBJECTS

    def _hurry(self, done: Callable[[], bool]) -> None:
        self._wait(lambda: self._failure is not None or done())
        self._raise_failure()

    def _wait(self, done: Callable[[], bool]) -> None:
        if done():
            return
        self._urgent += 1
        self._changed.notify_all()
        try:
            self._changed.wait_for(done)
        finally:
            self._urgent -= 1

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(self._failure.message, hint=self._failure.hint) from self._failure

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="storage-commit", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                self._commit(batch)
        finally:  # whatever ends this thread, nobody may wait for it in vain
            if not self._closing:
                self.fail(StorageError(f"the committer of storage {self._directory} died"))

    def _next_batch(self) -> list[Staged]:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or (self._queue and self._is_due()))
            batch, self._queue = self._queue[:BATCH_OBJECTS], self._queue[BATCH_OBJECTS:]
            return batch

    def _is_due(self) -> bool:
        if self._urgent or self._failure is not None or len(self._queue) >= BATCH_OBJECTS:
            return True
        return self._uncommitted_bytes >= min(BATCH_BYTES, self._limit_bytes)

    def _commit(self, batch: list[Staged]) -> None:
        durable = [staged for staged in batch if self._attempt(staged, self._make_durable)]
        for staged in durable:
            self._attempt(staged, self._publish)
        for staged in batch:
            staged.discard()
        with self._changed:
            self._failure = self._failure or self._unsaid_failure
            for staged in batch:
                del self._objects[staged.key]
                self._uncommitted_bytes -= staged.size_bytes
            self._changed.notify_all()

    def _make_durable(self, staged: Staged) -> None:
        self._sync(staged.descriptor)
        start_writeback(staged.descriptor)

    def _attempt(self, staged: Staged, step: Callable[[Staged], None]) -> bool:
        try:
            step(staged)
        except OSError as error:
            failure = translated(error, f"make {staged.key} durable", self._directory)
            self._unsaid_failure = self._unsaid_failure or failure
            return False
        return True
