"""The quiet of a window: begins when all are ready or have given up, ends when the last has read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from backupd.errors import QuiesceFailed
from backupd.operations.quiet import Quiet


class Containers:
    """What stands still, and what was seen of it."""

    def __init__(self, *, deaf: bool = False, stuck: bool = False) -> None:
        self.still: set[str] = set()
        self.held: tuple[str, ...] | None = None
        self._deaf, self._stuck = deaf, stuck

    @contextmanager
    def hold(self, names: Sequence[str]) -> Iterator[Callable[[], str]]:
        """Let them stand still."""
        if self._deaf:
            raise QuiesceFailed("does not stop")
        self.held = tuple(sorted(names))
        self.still |= set(names)
        yield lambda: "over"
        self.still.clear()
        if self._stuck:
            raise QuiesceFailed("does not go on")


def test_nobody_reads_before_it_begins_or_after_it_has_ended() -> None:
    """Each reads while the containers of all stand still."""
    quiet, containers = Quiet[str, str](3), Containers()
    seen: dict[str, set[str]] = {}

    def read(name: str) -> str:
        with quiet.part() as part:
            part.ready(name)
            seen[name] = set(containers.still)
            part.done()
            return part.over()

    with ThreadPoolExecutor(3) as pool:
        reading = pool.map(read, "abc")
        quiet.hold(containers.hold)
        assert list(reading) == ["over"] * 3
    assert seen == {name: {"a", "b", "c"} for name in "abc"}
    assert not containers.still


def test_who_gives_up_is_not_waited_for() -> None:
    """Before it is ready: its containers are left alone. While it reads: the others get their time."""
    quiet, containers = Quiet[str, str](3), Containers()

    def fail_early() -> None:
        with quiet.part():
            raise ZeroDivisionError

    def fail_late() -> None:
        with quiet.part() as part:
            part.ready("late")
            raise ZeroDivisionError

    def read() -> str:
        with quiet.part() as part:
            part.ready("sound")
            return part.over()

    with ThreadPoolExecutor(3) as pool:
        early, late, sound = pool.submit(fail_early), pool.submit(fail_late), pool.submit(read)
        quiet.hold(containers.hold)
        assert isinstance(early.exception(), ZeroDivisionError)
        assert isinstance(late.exception(), ZeroDivisionError)
        assert sound.result() == "over"
    assert containers.held == ("late", "sound")


def test_where_nobody_is_ready_nothing_is_touched() -> None:
    """All have given up."""
    quiet, containers = Quiet[str, str](2), Containers()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), quiet.part():
            raise ZeroDivisionError
    quiet.hold(containers.hold)
    assert containers.held is None


@pytest.mark.parametrize("how", ["deaf", "stuck"])
def test_what_goes_wrong_with_the_containers_every_part_hears(how: str) -> None:
    """Nobody can say what the volumes were; one error for all."""
    quiet, containers = Quiet[str, str](2), Containers(**{how: True})
    read = threading.Event()

    def attempt(name: str) -> None:
        with quiet.part() as part:
            part.ready(name)
            read.set()
            part.over()

    with ThreadPoolExecutor(2) as pool:
        attempts = [pool.submit(attempt, name) for name in "ab"]
        quiet.hold(containers.hold)
        assert all(isinstance(each.exception(), QuiesceFailed) for each in attempts)
    assert read.is_set() == (how == "stuck")
