"""The token bucket against a clock of its own, and the storage that takes from it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import pytest

from backupd.errors import Interrupted
from backupd.rate import BURST_SECONDS, Rate
from backupd.storage.memory import MemoryStorage
from backupd.storage.paced import PacedStorage


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let it pass."""
        with self._lock:
            self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_rate(clock: Clock) -> Callable[[int], Rate]:
    return lambda bytes_per_second: Rate(bytes_per_second, clock=clock, sleep=clock.sleep)


def free() -> None:
    """Nobody cancels."""


def test_bytes_pass_at_the_rate(clock: Clock, make_rate: Callable[[int], Rate]) -> None:
    """A hundred blocks take what they take at that rate; the burst and the last block are not waited for."""
    rate, began = make_rate(1000), clock.now
    for _ in range(100):
        rate.take(500, free)
    assert clock.now - began == pytest.approx(99 * 0.5 - BURST_SECONDS)


def test_who_was_idle_has_no_more_than_the_burst(clock: Clock, make_rate: Callable[[int], Rate]) -> None:
    """An hour of rest does not let an hour's bytes pass at once."""
    rate = make_rate(1000)
    clock.sleep(3600)
    began = clock.now
    for _ in range(10):
        rate.take(1000, free)
    assert clock.now - began == pytest.approx(9 - BURST_SECONDS)


def test_a_block_larger_than_the_burst_passes_and_the_next_waits(
    clock: Clock, make_rate: Callable[[int], Rate]
) -> None:
    """Blocks of the pipeline are larger than a second's bytes may be; they are owed."""
    rate, began = make_rate(1000), clock.now
    rate.take(10_000, free)
    assert clock.now == began
    rate.take(1, free)
    assert clock.now - began == pytest.approx(10 - BURST_SECONDS)


def test_who_waits_can_be_told_to_stop(make_rate: Callable[[int], Rate]) -> None:
    """E3: a low rate keeps nobody from ending."""
    rate = make_rate(1)
    rate.take(1_000_000, free)

    def cancelled() -> None:
        raise Interrupted("cancelled")

    with pytest.raises(Interrupted):
        rate.take(1, cancelled)


def test_threads_share_the_rate() -> None:
    """With a real clock, four of them together are no faster than one may be."""
    slept: list[float] = []
    rate = Rate(1000, clock=lambda: 0.0, sleep=lambda seconds: _stop(slept, seconds))
    threads = [threading.Thread(target=_take, args=(rate,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rate._paid == pytest.approx(4 * 5 - BURST_SECONDS)


def test_what_is_put_is_paced_and_what_is_read_is_not(clock: Clock, make_rate: Callable[[int], Rate]) -> None:
    """Objects and files alike take from the rate; listing, reading and deleting do not."""
    storage, began = PacedStorage(MemoryStorage(), make_rate(1000), free), clock.now
    assert storage.put("a", bytes(5000))
    assert storage.put_file("b", io.BytesIO(bytes(5000)))
    assert storage.put("c", b"")
    storage.flush()
    assert clock.now - began == pytest.approx(10 - BURST_SECONDS)
    paid = clock.now
    assert [info.key for info in storage.list()] == ["a", "b", "c"]
    assert storage.get("a", limit_bytes=5000) == storage.open("b").read() == bytes(5000)
    storage.delete("c")
    assert clock.now == paid


def test_a_put_that_is_cancelled_stores_nothing(make_rate: Callable[[int], Rate]) -> None:
    """E3: told to stop while it waits for its turn, it raises."""
    cancel = False

    def check() -> None:
        if cancel:
            raise Interrupted("cancelled")

    storage = PacedStorage(MemoryStorage(), make_rate(1), check)
    storage.put("a", bytes(100))
    cancel = True
    with pytest.raises(Interrupted):
        storage.put("b", b"data")
    assert not storage.exists("b")


class _Enough(Exception):
    pass


def _stop(slept: list[float], seconds: float) -> None:
    slept.append(seconds)
    raise _Enough


def _take(rate: Rate) -> None:
    for _ in range(10):
        try:
            rate.take(500, free)
        except _Enough:
            continue
