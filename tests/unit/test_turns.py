"""The queue, with real threads: order, the limit, claims, who joins whom, and its end."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import pytest

from backupd.errors import Interrupted
from backupd.turns import Runs, Turn, Turns

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

    def __call__(self, turn: Turn) -> Runs:
        with self._news:
            self.begun.append(turn.name)
            self._now.add(turn.name)
            self.together.append(frozenset(self._now))
            self._news.notify_all()
            self._news.wait_for(lambda: self._all_free or turn.name in self._free, PATIENCE_SECONDS)
            self._now.discard(turn.name)
            self._free.discard(turn.name)
        return ()

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


def alone(turn: Turn) -> frozenset[str]:
    """Everybody claims a thing of their own."""
    return frozenset({turn.name})


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
    assert [turn.name for turn in turns.working] == ["a", "b"]
    assert [turn.name for turn in turns.waiting] == ["c", "d", "e"]
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
    turns = Turns(work, lambda turn: frozenset(claims[turn.name]), limit=4)
    for name in claims:
        turns.add(name)
    work.wait_for("db", "mail")
    assert [turn.name for turn in turns.waiting] == ["uploads", "static"]
    work.let_go("db")
    work.wait_for("uploads", "mail")
    work.let_go("uploads")
    work.wait_for("static", "mail")


def test_who_is_asked_for_comes_first_and_is_joined(work: Work) -> None:
    """Somebody waits for it: it passes the queue, and a second one who asks gets the same answer."""
    turns = Turns(work, lambda turn: frozenset({turn.name.split("/")[0]}), limit=1)
    turns.add("a")
    turns.add("b")
    asked = turns.ask("c")
    assert turns.ask("c") is asked
    assert [turn.name for turn in turns.waiting] == ["c", "b"]
    work.let_go("a")
    work.wait_for("c")
    assert turns.ask("c") is asked
    work.let_go("c")
    assert asked.result(PATIENCE_SECONDS) == ()
    work.wait_for("b")
    assert turns.ask("b") is not asked, "a turn that nobody asked for may have read too early"


def test_a_higher_limit_holds_at_once(work: Work) -> None:
    """Those who wait begin."""
    turns = Turns(work, alone, limit=1)
    for name in "abc":
        turns.add(name)
    work.wait_for("a")
    turns.resize(2)
    work.wait_for("a", "b")


def test_the_end_waits_for_who_works_and_sends_away_who_waits(work: Work) -> None:
    """Nobody begins after it, and who asked hears why nothing came of it."""
    turns = Turns(work, alone, limit=1)
    turns.add("a")
    turns.add("b")
    asked = turns.ask("c")
    work.wait_for("a")
    ending = threading.Thread(target=turns.stop)
    ending.start()
    until(lambda: not turns.waiting)
    assert ending.is_alive()
    work.let_go("a")
    ending.join(PATIENCE_SECONDS)
    assert not ending.is_alive()
    assert work.begun == ["a"]
    for future in (asked, turns.ask("d")):
        with pytest.raises(Interrupted):
            future.result(PATIENCE_SECONDS)
    assert not turns.add("e")


def test_work_that_fails_ends_its_turn() -> None:
    """An error that nobody expected reaches who asked, and the next one begins."""

    def work(turn: Turn) -> Runs:
        raise ZeroDivisionError(turn.name)

    turns = Turns(work, alone, limit=1)
    for name in "ab":
        with pytest.raises(ZeroDivisionError, match=name):
            turns.ask(name).result(PATIENCE_SECONDS)


@pytest.mark.parametrize("seed", range(3))
def test_two_hundred_that_are_due_at_once_are_all_done(seed: int) -> None:
    """Whatever they share, each has its turn, never more than the limit, never one claim twice."""
    chance = random.Random(seed)
    claims = {f"v{n}": frozenset(chance.sample("abcdefghijklmnop", chance.randint(1, 3))) for n in range(200)}
    lock, now, done = threading.Lock(), list[str](), list[str]()
    wrong: list[str] = []

    def work(turn: Turn) -> Runs:
        with lock:
            if any(claims[turn.name] & claims[other] for other in now) or len(now) >= 5:
                wrong.append(turn.name)
            now.append(turn.name)
        threading.Event().wait(chance.random() / 500)
        with lock:
            now.remove(turn.name)
            done.append(turn.name)
        return ()

    turns = Turns(work, lambda turn: claims[turn.name], limit=5)
    for name in claims:
        turns.add(name)
    until(lambda: len(done) == 200 and not turns.working)
    assert wrong == []
    assert sorted(done) == sorted(claims)
