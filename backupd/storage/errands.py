"""Calls that somebody else makes, so that who waits for them may leave."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

LOOK_SECONDS = 0.2
"""How often who waits looks whether it is time to leave; a call that ends is noticed at once."""

T = TypeVar("T")
_Errand = tuple[Future[Any], Callable[[], Any]]


class Errands:
    """Threads, as many as there are calls at once, that make calls for others.

    A thread that waits in a socket cannot be interrupted. What it is called for can be given up, though: its
    thread stays behind, and ends with the call or with the process, whichever comes first.
    """

    def __init__(self) -> None:
        self._waiting: SimpleQueue[_Errand | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads = 0

    def run(self, call: Callable[[], T], leave: Callable[[], None]) -> T:
        """What `call` returns or raises; or what `leave`, asked while it goes on, raises."""
        future: Future[T] = Future()
        self._waiting.put((future, call))
        if not self._idle.acquire(blocking=False):
            self._hire()
        while not future.done():
            with suppress(TimeoutError):
                future.exception(LOOK_SECONDS)
            if not future.done():
                leave()
        return future.result()

    def close(self) -> None:
        """Let the threads end, each when the call is over that it may be at; run no errand after."""
        with self._lock:
            for _ in range(self._threads):
                self._waiting.put(None)

    def _hire(self) -> None:
        with self._lock:
            self._threads += 1
            name = f"storage-{self._threads}"
        # A daemon: the end of the process must not wait for a server that is silent.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while errand := self._waiting.get():
            _carry_out(*errand, self._idle.release)
            del errand  # what was put must not be kept until the next call


def _carry_out(future: Future[Any], call: Callable[[], Any], before_it_is_told: Callable[[], None]) -> None:
    try:
        result = call()
    except BaseException as error:
        before_it_is_told()
        future.set_exception(error)
    else:
        # Before: who hears of the end may call again at once, and needs no other thread.
        before_it_is_told()
        future.set_result(result)
