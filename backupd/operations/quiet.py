"""The time in which the volumes of a window stand still, met by a thread for each of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Quiet(Generic[T, R]):
    """Begins when every part is ready to read or has given up, and ends when the last has read.

    So that the volumes belong together, nobody reads before it or after it. `T` is what a part says of itself
    when it is ready, `R` what is known of the quiet when it is over.
    """

    def __init__(self, parts: int) -> None:
        self._turn = threading.Condition()
        self._coming = self._reading = parts
        self._ready: list[T] = []
        self._begun = self._over = False
        self._failure: BaseException | None = None
        self._report: R | None = None

    def hold(self, still: Callable[[Sequence[T]], AbstractContextManager[Callable[[], R]]]) -> None:
        """Wait for the parts, hold `still` while they read, and tell them what it yielded comes to.

        `still` gets what those parts are that are ready; the function that it yields is called once it has
        been left. What it raises, each of these parts raises.
        """
        self._await(lambda: self._coming == 0)
        try:
            if self._ready:
                with still(tuple(self._ready)) as report:
                    self._announce(begun=True)
                    self._await(lambda: self._reading == 0)
                self._report = report()
        except BaseException as error:
            self._failure = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._announce(begun=True, over=True)

    @contextmanager
    def part(self) -> Iterator[Part[T, R]]:
        """One of the parts; who leaves without having been ready, or having read, has given up."""
        part = Part(self)
        try:
            yield part
        finally:
            part.give_up()

    def come(self, what: T | None) -> None:
        """A part is `what` it says and ready, or gives up."""
        with self._turn:
            self._coming -= 1
            if what is not None:
                self._ready.append(what)
            self._turn.notify_all()

    def read(self) -> None:
        """A part reads no more."""
        with self._turn:
            self._reading -= 1
            self._turn.notify_all()

    def wait_for_beginning(self) -> None:
        """Raises what kept it from beginning."""
        self._await(lambda: self._begun)
        if self._failure is not None:
            raise self._failure

    def wait_for_end(self) -> R:
        """What is known of it then; raises what went wrong in it."""
        self._await(lambda: self._over)
        if self._report is None:
            raise self._failure or RuntimeError("nobody was ready for the quiet")
        return self._report

    def _await(self, done: Callable[[], bool]) -> None:
        with self._turn:
            self._turn.wait_for(done)

    def _announce(self, *, begun: bool, over: bool = False) -> None:
        with self._turn:
            self._begun, self._over = begun, over
            self._turn.notify_all()


class Part(Generic[T, R]):
    """What one thread has to do with the quiet, in this order."""

    def __init__(self, quiet: Quiet[T, R]) -> None:
        self._quiet = quiet
        self._came = self._has_read = False
        self._once = threading.Lock()

    def ready(self, what: T) -> None:
        """Say so, and wait for the quiet to begin."""
        self._came = True
        self._quiet.come(what)
        self._quiet.wait_for_beginning()

    def done(self) -> None:
        """Say that the reading has ended; any thread may, and more than once."""
        with self._once:
            if not self._has_read:
                self._has_read = True
                self._quiet.read()

    def over(self) -> R:
        """Wait until everybody has read and the containers go on."""
        self.done()
        return self._quiet.wait_for_end()

    def give_up(self) -> None:
        """Let nobody wait for this part."""
        if not self._came:
            self._came = True
            self._quiet.come(None)
        self.done()
