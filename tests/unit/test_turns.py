"""The queue, with real threads: order, the limit, claims, who joins whom, and its end."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import pytest

from backupd.turns import Turns

PATIENCE_SECONDS = 60


class Work:
    """Holds each turn until it is let go, and notes who was at work together."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.together: list[frozenset[str]] = []
        self._now: set[str] = set()
        self._free: set[str] = set()
        self._all_free = False
        self._news = threading.Condition()

    def __call__(self, name: str) -> None:
        with self._news:
            self.begun.append(name)
            self._now.add(name)
            self.together.append(frozenset(self._now))
            self._news.notify_all()
            self._news.wait_for(lambda: self._all_free or name in self._free, PATIENCE_SECONDS)
            self._now.discard(name)
            self._free.discard(name)

    def let_go(self, *names: str) -> None:
        """Let these end, or all, now and later."""
        with self._news:
            self._free.update(names)
            self._all_free = self._all_free or not names
            self._news.notify_all()

    def wait_for(self, *names: str) -> None:
        """Until exactly these are at work."""
        with self._news:
            assert self._news.wait_for(lambda: self._now == set(names), PATIENCE_SECONDS), self._now


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.let_go()


def alone(name: str) -> frozenset[str]:
    """Everybody claims a thing of their own."""
    return frozenset({name})


def until(condition: Callable[[], bool]) -> None:
    """Wait for the condition to come true."""
    poll = threading.Event()
    for _ in range(PATIENCE_SECONDS * 20):
        if condition():
            return
        poll.wait(0.05)
    raise AssertionError("waited in vain")


def test_turns_come_in_order_and_not_more_than_the_limit(work: Work) -> None:
    """Of five, two are at work and the others wait in the order in which they came."""
    turns = Turns(work, alone, limit=2)
    for name in "abcde":
        assert turns.add(name)
    work.wait_for("a", "b")
    assert [turn.key for turn in turns.working] == ["a", "b"]
    assert [turn.key for turn in turns.waiting] == ["c", "d", "e"]
    work.let_go("b")
    work.wait_for("a", "c")
    work.let_go()
    until(lambda: not turns.working and not turns.waiting)
    assert sorted(work.begun) == list("abcde")
    assert max(map(len, work.together)) == 2


def test_one_that_waits_or_works_gets_no_second_turn(work: Work) -> None:
    """S4: a point at which the last run has not ended is refused."""
    turns = Turns(work, alone, limit=1)
    assert turns.add("a")
    assert turns.add("b")
    assert not turns.add("a")
    assert not turns.add("b")
    work.let_go("a")
    work.wait_for("b")
    assert turns.add("a")


def test_what_is_claimed_is_never_at_work_twice(work: Work) -> None:
    """Two volumes of one container wait for each other; others pass, unless they share with who waits."""
    claims = {"db": {"app"}, "uploads": {"app", "web"}, "static": {"web"}, "mail": {"mail"}}
    turns = Turns(work, lambda name: frozenset(claims[name]), limit=4)
    for name in claims:
        turns.add(name)
    work.wait_for("db", "mail")
    assert [turn.key for turn in turns.waiting] == ["uploads", "static"]
    work.let_go("db")
    work.wait_for("uploads", "mail")
    work.let_go("uploads")
    work.wait_for("static", "mail")


def test_a_higher_limit_holds_at_once(work: Work) -> None:
    """Those who wait begin."""
    turns = Turns(work, alone, limit=1)
    for name in "abc":
        turns.add(name)
    work.wait_for("a")
    turns.resize(2)
    work.wait_for("a", "b")


def test_the_end_waits_for_who_works_and_sends_away_who_waits(work: Work) -> None:
    """Nobody begins after it."""
    turns = Turns(work, alone, limit=1)
    turns.add("a")
    turns.add("b")
    work.wait_for("a")
    ending = threading.Thread(target=turns.stop)
    ending.start()
    until(lambda: not turns.waiting)
    assert ending.is_alive()
    work.let_go("a")
    ending.join(PATIENCE_SECONDS)
    assert not ending.is_alive()
    assert work.begun == ["a"]
    assert not turns.add("c")


def test_work_that_fails_ends_its_turn() -> None:
    """An error that nobody expected is logged, and the next one begins."""
    begun: list[str] = []

    def work(name: str) -> None:
        begun.append(name)
        raise ZeroDivisionError(name)

    turns = Turns(work, alone, limit=1)
    turns.add("a")
    turns.add("b")
    until(lambda: not turns.waiting and not turns.working)
    assert begun == ["a", "b"]


@pytest.mark.parametrize("seed", range(3))
def test_two_hundred_that_are_due_at_once_are_all_done(seed: int) -> None:
    """Whatever they share, each has its turn, never more than the limit, never one claim twice."""
    chance = random.Random(seed)
    claims = {f"v{n}": frozenset(chance.sample("abcdefghijklmnop", chance.randint(1, 3))) for n in range(200)}
    lock, now, done = threading.Lock(), list[str](), list[str]()
    wrong: list[str] = []

    def work(name: str) -> None:
        with lock:
            if any(claims[name] & claims[other] for other in now) or len(now) >= 5:
                wrong.append(name)
            now.append(name)
        threading.Event().wait(chance.random() / 500)
        with lock:
            now.remove(name)
            done.append(name)

    turns = Turns(work, lambda name: claims[name], limit=5)
    for name in claims:
        turns.add(name)
    until(lambda: len(done) == 200 and not turns.working)
    assert wrong == []
    assert sorted(done) == sorted(claims)
