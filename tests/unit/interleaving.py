"""Programs on one storage whose calls happen in an order that a test chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import BinaryIO

from backupd.errors import ObjectDamaged
from backupd.storage.base import Buffer, ObjectInfo
from backupd.storage.memory import MemoryStorage
from tests.faults import Crash

PAGE = 3


class Actor:
    """A program that stops before each of its storage calls until it is told to go on.

    What it puts, others see when it flushes, or when the test lets it be published: as with a directory
    whose committer works in the background. Listings come in pages of three, each a call of its own.
    """

    def __init__(self, name: str, shared: MemoryStorage, program: Callable[[OwnView], object]) -> None:
        self.name = name
        self.error: BaseException | None = None
        self.ended = False
        self.next_call = ""
        self.view = OwnView(shared, self._pause)
        self._program = program
        self._killed = False
        self._turn, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()
        self._waits.acquire()

    def step(self, calls: int) -> None:
        """Let it make so many calls."""
        for _ in range(calls):
            if self.ended:
                break
            self._turn.release()
            self._waits.acquire()
        if self.ended:
            self._thread.join()

    def run_to(self, call: str) -> None:
        """Let it go on until its next call begins with this, or it has ended."""
        self.step(1)
        while not self.ended and not self.next_call.startswith(call):
            self.step(1)

    def kill(self) -> None:
        """End it before its next call; what it has put and nobody saw is lost."""
        self._killed = True
        while not self.ended:
            self._turn.release()
            self._waits.acquire()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._program(self.view)
        except BaseException as error:  # the test looks at it
            self.error = error
        self.ended = True
        self._waits.release()

    def _pause(self, call: str) -> None:
        self.next_call = call
        if not self._killed:
            self._waits.release()
            self._turn.acquire()
        if self._killed:
            raise Crash(self.name)


class OwnView:
    """The shared storage as one process sees it."""

    def __init__(self, shared: MemoryStorage, pause: Callable[[str], None]) -> None:
        self.location = shared.location
        self.concurrency = 1
        self._shared = shared
        self._pause = pause
        self._staged: dict[str, bytes] = {}

    def publish(self) -> None:
        """Let everybody see what was put."""
        for key, data in self._staged.items():
            self._shared.put(key, data)
        self._staged.clear()
        self._shared.flush()

    def put(self, key: str, data: Buffer) -> bool:
        self._pause(f"put {key}")
        if key in self._staged or self._shared.exists(key):
            return False
        self._staged[key] = bytes(data)
        return True

    def put_file(self, key: str, file: BinaryIO) -> bool:
        return self.put(key, file.read())

    def flush(self) -> None:
        self._pause("flush")
        self.publish()

    def exists(self, key: str) -> bool:
        self._pause(f"exists {key}")
        return key in self._staged or self._shared.exists(key)

    def get(self, key: str, *, limit_bytes: int) -> bytes:
        self._pause(f"get {key}")
        data = self._staged.get(key) or self._shared.get(key, limit_bytes=limit_bytes)
        if len(data) > limit_bytes:
            raise ObjectDamaged(f"{key} is too large")
        return data

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        self._pause(f"get_range {key}")
        if (data := self._staged.get(key)) is None:
            return self._shared.get_range(key, offset, length)
        return data[offset : offset + length]

    def open(self, key: str) -> BinaryIO:
        return BytesIO(self.get(key, limit_bytes=1 << 30))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        last, page = "", [None] * PAGE
        while len(page) == PAGE:
            self._pause(f"list {prefix}")
            page = [info for info in self._shared.list(prefix) if info.key > last][:PAGE]  # type: ignore[misc]
            for info in page:
                assert info is not None
                last = info.key
                yield info

    def delete(self, key: str) -> None:
        self._pause(f"delete {key}")
        self._staged.pop(key, None)
        self._shared.delete(key)

    def close(self) -> None:
        pass
