"""Containers stand still while their volume is read, and go on afterwards, whatever happens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from docker.errors import APIError, NotFound

from backupd.engine.client import Engine
from backupd.engine.door import door
from backupd.engine.journal import Change, Journal
from backupd.errors import EngineError, QuiesceFailed
from backupd.volume import Container

WAKING_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0)
"""When to try again to wake a container that does not want to."""


@contextmanager
def quiesce(engine: Engine, journal: Journal, containers: Sequence[Container]) -> Iterator[tuple[str, ...]]:
    """Pause those of the containers that run, and wake them at the end; the names of those held still.

    Who was paused or stopped before stays so, who has vanished is left out. Quiesces of one journal may
    overlap: a container goes on when the last of them has ended. Raises `QuiesceFailed` with nothing left
    paused, or, where a container cannot be woken, naming the command that does it; the journal then keeps it
    for `recover`.
    """
    with ExitStack() as stack:
        held = [stack.enter_context(_held(engine, journal, container)) for container in containers]
        yield tuple(name for name in held if name is not None)


def recover(engine: Engine, journal: Journal) -> tuple[str, ...]:
    """Wake the containers of this engine that dead processes have left paused; their names.

    Changes to other engines are kept. `QuiesceFailed`, after all were tried, names one that did not wake.
    """
    with journal.lock:
        journal.adopt()
        left = [change for change in journal.changes if change.engine == engine.id]
        woken, failed = [], []
        for change in left:
            if journal.holds[change]:
                continue
            try:
                if _wake(engine, journal, change):
                    woken.append(change.name)
            except QuiesceFailed as error:
                failed.append(error)
    if failed:
        raise failed[0]
    return tuple(woken)


@contextmanager
def _held(engine: Engine, journal: Journal, container: Container) -> Iterator[str | None]:
    change = Change(engine.id, container.id, container.name)
    with journal.lock:
        holds = journal.holds[change] > 0 or _pause(engine, journal, change)
        if holds:
            journal.holds[change] += 1
    try:
        yield container.name if holds else None
    finally:
        if holds:
            with journal.lock:
                journal.holds[change] -= 1
                if not journal.holds[change]:
                    del journal.holds[change]
                    _wake(engine, journal, change)


def _pause(engine: Engine, journal: Journal, change: Change) -> bool:
    """Pause the container if it runs; whether it is paused by us."""
    state = _state(engine, change)
    if state is None or not state["Running"] or state["Restarting"]:
        return False
    if state["Paused"]:
        if journal.held_elsewhere(change):
            raise QuiesceFailed(
                f"container {change.name} is paused by another backupd process",
                hint="try again when that one has finished its backup",
            )
        return False
    journal.record(change)
    try:
        with door(f"pause container {change.name}"):
            engine.api.pause(change.container)
    except EngineError as error:
        # the engine may have paused it all the same, a time-out says nothing
        _wake(engine, journal, change)
        if _has_ended(engine, change):
            return False
        raise QuiesceFailed(
            error.message, hint="choose quiesce none for it, or look at the engine"
        ) from error
    return True


def _wake(engine: Engine, journal: Journal, change: Change) -> bool:
    """Unpause the container if it is paused, and forget the change; whether it was."""
    for seconds in WAKING_SECONDS:
        time.sleep(seconds)
        try:
            state = _state(engine, change)
            paused = state is not None and bool(state["Paused"])
            if paused:
                _unpause(engine, change)
        except EngineError as error:
            failure = error
            continue
        journal.erase(change)
        return paused
    raise QuiesceFailed(
        f"container {change.name} may still be paused: {failure.message}",
        hint=f"wake it by hand: docker unpause {change.name}",
    ) from failure


def _unpause(engine: Engine, change: Change) -> None:
    with door(f"unpause container {change.name}"):
        try:
            engine.api.unpause(change.container)
        except APIError:
            state = _state(engine, change)
            if state is not None and state["Paused"]:
                raise


def _has_ended(engine: Engine, change: Change) -> bool:
    state = _state(engine, change)
    return state is None or not state["Running"]


def _state(engine: Engine, change: Change) -> Mapping[str, Any] | None:
    """The engine's word on the container's state; None if there is no such container any more."""
    with door(f"inspect container {change.name}"):
        try:
            state: Mapping[str, Any] = engine.api.inspect_container(change.container)["State"]
        except NotFound:
            return None
    return state
