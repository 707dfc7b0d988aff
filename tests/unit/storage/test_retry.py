"""The storage that tries again: what passes, what does not, and when it gives up."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest

from backupd.errors import Interrupted, ObjectNotFound, StorageError, StorageUnavailable
from backupd.storage.base import Buffer
from backupd.storage.memory import MemoryStorage
from backupd.storage.retry import FIRST_WAIT_SECONDS, WAIT_LIMIT_SECONDS, Retry, RetryingStorage
from tests.faults import FaultyStorage

BUSY = StorageUnavailable("asked for patience")
KEY = "chunks/ab/abcd.zst"
PATIENCE_SECONDS = 60


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


def patient(faulty: FaultyStorage, clock: Clock | None = None) -> RetryingStorage:
    """A retrying storage that waits for nothing real."""
    clock = clock or Clock()
    return RetryingStorage(faulty, sleep=clock.sleep, clock=clock)


def test_every_call_is_tried_again() -> None:
    """R6: what failed once and then works has worked."""
    faulty = FaultyStorage(MemoryStorage())
    storage = patient(faulty)
    for name, call in (
        ("put", lambda: storage.put(KEY, b"abc")),
        ("put_file", lambda: storage.put_file("file", BytesIO(b"def"))),
        ("flush", storage.flush),
        ("exists", lambda: storage.exists(KEY)),
        ("get", lambda: storage.get(KEY, limit_bytes=3)),
        ("open", lambda: storage.open(KEY).close()),
        ("list", lambda: list(storage.list())),
        ("delete", lambda: storage.delete(KEY)),
    ):
        faulty.fail_once(name, BUSY)
        before = len(faulty.calls)
        call()
        assert [each.split()[0] for each in faulty.calls[before:]][:2] == [name, name]


def test_other_errors_pass_at_once() -> None:
    """R10: what will not mend by itself is told without a wait."""
    clock = Clock()
    faulty = FaultyStorage(MemoryStorage())
    storage = patient(faulty, clock)
    faulty.fail_once("put", StorageError("the keys have expired"))
    with pytest.raises(StorageError, match="expired"):
        storage.put(KEY, b"")
    with pytest.raises(ObjectNotFound):
        storage.get(KEY, limit_bytes=1)
    assert clock.slept == []


def test_waits_grow_and_end_at_the_deadline() -> None:
    """R6: jittered, bounded each, and in sum no longer than was said."""
    clock = Clock()
    faulty = FaultyStorage(MemoryStorage())
    storage = patient(faulty, clock)
    assert storage.put(KEY, b"")
    broken = FaultyStorage(MemoryStorage(), fail_when=lambda call: BUSY if call == "flush" else None)
    storage = RetryingStorage(broken, deadline_seconds=100, sleep=clock.sleep, clock=clock)
    storage.exists(KEY)
    with pytest.raises(StorageUnavailable, match="asked for patience"):
        storage.flush()
    assert clock.now == pytest.approx(100)
    assert clock.slept[0] <= 1.5 * FIRST_WAIT_SECONDS < clock.slept[4]
    assert max(clock.slept) <= 1.5 * WAIT_LIMIT_SECONDS
    assert len({round(wait, 6) for wait in clock.slept}) > 1


def test_storage_that_never_answered_is_given_up_soon() -> None:
    """A wrong address is told within seconds, not after the patience that a storm deserves."""
    clock = Clock()
    broken = FaultyStorage(MemoryStorage(), fail_when=lambda call: BUSY)
    storage = RetryingStorage(broken, first_deadline_seconds=10, sleep=clock.sleep, clock=clock)
    with pytest.raises(StorageUnavailable):
        storage.get(KEY, limit_bytes=1)
    assert clock.now == pytest.approx(10)


@pytest.mark.parametrize("name", ["put", "put_file"])
def test_put_whose_answer_was_lost_counts_as_stored(name: str) -> None:
    """R6: it timed out after it had succeeded; the second try finds its own bytes."""
    faulty = FaultyStorage(MemoryStorage())
    storage = patient(faulty)
    faulty.fail_after(name, BUSY)
    file = BytesIO(b"skip abc")
    file.seek(5)
    assert storage.put_file(KEY, file) if name == "put_file" else storage.put(KEY, b"abc")
    assert storage.get(KEY, limit_bytes=3) == b"abc"


@pytest.mark.parametrize("other", [b"", b"ab", b"abd", b"abcd"])
def test_put_that_failed_before_another_won_is_not_stored(other: bytes) -> None:
    """R7: what is there now are another writer's bytes, and the answer says so."""
    faulty = FaultyStorage(MemoryStorage())
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        faulty.inner.put(KEY, other)

    storage = RetryingStorage(faulty, sleep=sleep, clock=clock)
    faulty.fail_once("put", BUSY)
    assert storage.put(KEY, b"abc") is False
    assert storage.get(KEY, limit_bytes=4) == other


def test_reading_goes_on_where_it_broke_off() -> None:
    """R6: a short read is opened again, and the reader sees every byte once."""
    faulty = FaultyStorage(MemoryStorage())
    storage = patient(faulty)
    content = bytes(range(256)) * 20_000
    storage.put(KEY, content)
    faulty.break_reads(KEY, BUSY, after_bytes=3_000_000)
    with storage.open(KEY) as file:
        assert file.read() == content
    assert faulty.calls.count(f"open {KEY}") == 2


def test_listing_goes_on_where_it_broke_off() -> None:
    """R9: no key twice, none left out; where it stays broken nobody takes the part for the whole."""
    faulty = FaultyStorage(MemoryStorage())
    storage = patient(faulty)
    keys = [f"k/{number:02}" for number in range(20)]
    for key in keys:
        storage.put(key, b"")
    storage.flush()
    faulty.break_listing(BUSY, after=7)
    assert [info.key for info in storage.list("k/")] == keys
    faulty.break_listing(BUSY, after=7, times=10_000)
    seen = iter(storage.list("k/"))
    with pytest.raises(StorageUnavailable):
        list(seen)


def test_a_generator_left_early_is_no_failure() -> None:
    """Who needs only the first objects may stop there."""
    storage = patient(FaultyStorage(MemoryStorage()))
    for number in range(3):
        storage.put(f"k/{number}", b"")
    storage.flush()
    listing: Iterator[object] = storage.list()
    assert next(listing)
    del listing


class Silent(MemoryStorage):
    """A storage that may stop answering, as a server does that hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.answering = threading.Event()
        self.answering.set()
        self.asked = threading.Semaphore(0)

    def put(self, key: str, data: Buffer) -> bool:
        self.asked.release()
        self.answering.wait()
        return super().put(key, data)


def cancelled_while(storage: RetryingStorage, cancel: threading.Event, waiting: Callable[[], object]) -> None:
    """A put must raise `Interrupted` when cancelled while it waits for the storage."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(storage.put, KEY, b"abc")
        waiting()
        assert not future.done()
        cancel.set()
        with pytest.raises(Interrupted):
            future.result(PATIENCE_SECONDS)


def test_told_to_stop_a_wait_between_two_tries_ends() -> None:
    """E3: also where the wait would have been a minute, and the error that was waited out is not lost."""
    cancel, retries = threading.Event(), threading.Semaphore(0)
    told: list[Retry] = []

    def note(retry: Retry) -> None:
        told.append(retry)
        retries.release()

    broken = FaultyStorage(MemoryStorage(), fail_when=lambda call: BUSY)
    storage = RetryingStorage(
        broken, cancel=cancel, on_retry=note, sleep=lambda seconds: cancel.wait(PATIENCE_SECONDS)
    )
    cancelled_while(storage, cancel, retries.acquire)
    assert [(retry.attempt, retry.error) for retry in told] == [(1, BUSY)]


def test_told_to_stop_a_call_that_hangs_is_left_behind() -> None:
    """E3: nobody waits for a server that is silent; what it does with the call afterwards harms nobody."""
    cancel, silent = threading.Event(), Silent()
    storage = RetryingStorage(silent, cancel=cancel, last_seconds=0)
    silent.answering.clear()
    cancelled_while(storage, cancel, silent.asked.acquire)
    silent.answering.set()
    with pytest.raises(Interrupted):
        storage.put("other", b"")
    storage.close()


def test_told_to_stop_a_storage_that_works_can_still_be_told() -> None:
    """A session's end is put, so that collectors need not wait for it; but nothing is tried twice."""
    cancel = threading.Event()
    faulty = FaultyStorage(MemoryStorage())
    storage = RetryingStorage(faulty, cancel=cancel)
    cancel.set()
    assert storage.put(KEY, b"abc") is True
    faulty.fail_once("put", BUSY)
    with pytest.raises(Interrupted):
        storage.put("other", b"")
    assert faulty.calls == [f"put {KEY}", "put other"]


def test_told_to_stop_a_file_that_hangs_can_be_closed() -> None:
    """E3: the thread that is left behind in it holds nobody up."""
    cancel, asked, go = threading.Event(), threading.Semaphore(0), threading.Event()

    class Hanging(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            asked.release()
            go.wait()
            return 0

    memory = MemoryStorage()
    memory.open = lambda key: io.BufferedReader(Hanging())  # type: ignore[assignment, arg-type, return-value]
    storage = RetryingStorage(memory, cancel=cancel, last_seconds=0)
    file = storage.open(KEY)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(file.read)
        asked.acquire()
        cancel.set()
        with pytest.raises(Interrupted):
            future.result(PATIENCE_SECONDS)
        pool.submit(file.close).result(PATIENCE_SECONDS)
    go.set()


def test_errands_need_no_more_threads_than_calls_at_once() -> None:
    """One for a caller that calls one after the other."""
    storage = patient(FaultyStorage(MemoryStorage()))
    before = threading.active_count()
    for number in range(50):
        storage.put(f"k/{number}", b"")
    assert threading.active_count() <= before + 1
    storage.close()
