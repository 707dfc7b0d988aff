"""Undoing what was done to a container, from the journal's record alone."""

from __future__ import annotations

import time
from dataclasses import dataclass

from docker.errors import APIError

from backupd.engine.client import Engine
from backupd.engine.door import door
from backupd.engine.journal import Change
from backupd.engine.quiet.condition import Condition, condition
from backupd.engine.quiet.execution import Hangman, execute
from backupd.engine.quiet.health import wait_until_well
from backupd.engine.quiet.patience import Patience
from backupd.engine.quiet.successor import current
from backupd.errors import EngineError, QuiesceFailed

KILL_SECONDS = 15
"""How much longer than its own time the engine may take until a container that is told to stop has ended."""

UNPAUSE_SECONDS = 45
"""What the engine gets to unpause one container before the next one's turn.

Longer than a health check may take by default: one that was frozen as it started is given up by then.
"""

_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Undone:
    """What came of it. `acted`: it was still as we had left it and goes on now; else somebody was faster.

    `warnings` and `failed_hooks` are for people.
    """

    acted: bool
    warnings: tuple[str, ...] = ()
    failed_hooks: tuple[str, ...] = ()


def wake(engine: Engine, change: Change, patience: Patience) -> Undone:
    """Unpause the container if it is paused. `QuiesceFailed` names the command if it may still be paused."""

    def attempt() -> bool:
        with engine.within(UNPAUSE_SECONDS, f"unpause container {change.name}") as api:
            try:
                api.unpause(change.container)
            except APIError:
                found = condition(engine, change.container, change.name)
                if found is None or not found.paused:
                    return False
                raise
        return True

    try:
        return Undone(patience.insist(attempt))
    except EngineError as error:
        raise QuiesceFailed(
            f"container {change.name} may still be paused: {error.message}",
            hint=_by_hand(change),
        ) from error


def start_again(engine: Engine, change: Change, patience: Patience) -> Undone:
    """Start the container that was stopped, or its successor, and wait until it is well.

    `QuiesceFailed` names the command if it may still be down.
    """
    try:
        found = patience.insist(lambda: _settled(engine, change))
        if found is None:
            return Undone(False, (_gone(change),))
        if found.running:
            return Undone(False)
        patience.insist(lambda: _start(engine, found.id, change.name))
        trouble = patience.insist(lambda: wait_until_well(engine, found.id, change.name))
    except EngineError as error:
        raise QuiesceFailed(
            f"container {change.name} may still be stopped: {error.message}",
            hint=f"start it by hand: docker start {change.name}",
        ) from error
    return Undone(True, (trouble,) if trouble else ())


def make_up(engine: Engine, change: Change, patience: Patience) -> Undone:
    """Run the post hooks of a container whose pre hooks were begun; those that fail are told, not raised."""
    failed = []
    for number, hook in enumerate(change.post, 1):
        what = f"post hook {number} in container {change.name}" if len(change.post) > 1 else _post(change)
        try:
            found = patience.insist(lambda: current(engine, change))
            if found is None or not found.works:
                failed.append(f"{what} did not run: the container does not run")
                continue
            hangman = hangman_of(engine, change)
            execute(engine, found.id, what, hook, token=change.token, hangman=hangman, check=_never)
        except EngineError as error:
            failed.append(error.message)
    return Undone(True, failed_hooks=tuple(failed))


def kill_hooks(engine: Engine, change: Change) -> None:
    """Kill what a process that died has left running of the container's hooks."""
    found = condition(engine, change.container, change.name)
    if found is not None and found.works:
        hangman_of(engine, change).kill(change.container, change.token)


def _never() -> None:
    """What is being undone is not cancelled."""


def hangman_of(engine: Engine, change: Change) -> Hangman:
    """Who kills the hooks of a recorded change."""
    return Hangman(engine, image=change.image, instance=change.instance, run=change.run)


def _settled(engine: Engine, change: Change) -> Condition | None:
    """How the container is once no stop is under way: the engine goes on with one whose caller has gone.

    One that has not been started since, and still runs, may be about to stop: wait as long as that may take.
    """
    deadline = time.monotonic() + _left(change)
    while True:
        found = current(engine, change)
        stopping = found is not None and found.running and found.started == change.started
        if not stopping or time.monotonic() > deadline:
            return found
        time.sleep(_LOOK_SECONDS)


def _left(change: Change) -> float:
    """Seconds until a stop that was begun when that was recorded is over, however clocks have jumped."""
    whole = change.stop_seconds + KILL_SECONDS
    return min(max(change.at + whole - time.time(), 0.0), whole)


def _start(engine: Engine, container: str, name: str) -> None:
    with door(f"start container {name}"):
        try:
            engine.api.start(container)
        except APIError:
            found = condition(engine, container, name)
            if found is None or not found.running:
                raise


def _by_hand(change: Change) -> str:
    """Thawed, what was frozen as it started goes on; the engine unpauses only what is frozen."""
    state = f"/sys/fs/cgroup/freezer/docker/{change.container}/freezer.state"
    wake = f"docker unpause {change.name}"
    return (
        f"wake it by hand: {wake}; where that hangs, with cgroup v1: on the engine's host, as root: "
        f"echo THAWED > {state}; sleep 5; echo FROZEN > {state}; {wake}"
    )


def _gone(change: Change) -> str:
    return f"container {change.name} was removed while it was stopped for the backup; nothing took its place"


def _post(change: Change) -> str:
    return f"post hook in container {change.name}"
