"""Calming containers: hooks first, then who is to stop, last who is to pause; dependents before the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

from backupd.engine.client import Engine
from backupd.engine.door import door
from backupd.engine.journal import Change
from backupd.engine.quiet.case import Case
from backupd.engine.quiet.condition import condition
from backupd.engine.quiet.execution import execute, new_token
from backupd.engine.quiet.gap import WITHIN_SECONDS, await_gap
from backupd.engine.quiet.order import dependents_first
from backupd.engine.quiet.undo import hangman_of
from backupd.errors import EngineError, QuiesceFailed


@dataclass(frozen=True)
class Hands:
    """What it takes: `record` makes changes durable before they are made, or raises where none may be made.

    `step` is held during each; `check` raises when there is to be an end. Hooks that hang are killed by a
    helper of `image`, marked with `instance`.
    """

    engine: Engine
    image: str
    instance: str
    step: AbstractContextManager[object]
    record: Callable[..., None]
    check: Callable[[], None]


def calm(hands: Hands, cases: Sequence[Case]) -> None:
    """Treat all of them; the first failure ends it."""
    owners = {case.id: case.before.network_of for case in cases if case.before.network_of}
    by_id = {case.id: case for case in cases if case.before.running and not case.before.paused}
    containers = [case.container for case in by_id.values()]
    ordered = [by_id[container.id] for container in dependents_first(containers, owners)]
    for case in ordered:
        if case.wants_hooks:
            _prepare(hands, case)
    for case in ordered:
        if case.treatment.mode == "stop":
            _stop(hands, case)
    _pause(hands, [case for case in ordered if case.treatment.mode == "pause" and case.before.works])


def _prepare(hands: Hands, case: Case) -> None:
    """Run its pre hooks. That post hooks are due is recorded first."""
    change = replace(
        case.claim,
        action="hook",
        at=time.time(),
        token=new_token(),
        post=case.treatment.post,
        image=hands.image,
        instance=hands.instance,
    )
    with hands.step:
        hands.record(change)
        if case.treatment.mode == "none":
            case.begin()
        for hook in case.treatment.pre:
            execute(
                hands.engine,
                case.id,
                f"pre hook in container {case.name}",
                hook,
                token=change.token,
                hangman=hangman_of(hands.engine, change),
                check=hands.check,
            )
        case.hooked = bool(case.treatment.pre)


def _stop(hands: Hands, case: Case) -> None:
    """Stop it as it wants to be stopped; who has ended by itself meanwhile is left alone."""
    with hands.step:
        found = condition(hands.engine, case.id, case.name)
        if found is None or not found.running or found.paused:
            case.ended = found
            return
        hands.record(_made(case, "stop", found.started))
        case.begin()
        with door(f"stop container {case.name}"):
            hands.engine.api.stop(case.id, timeout=case.before.stop_seconds)
        case.ended = condition(hands.engine, case.id, case.name)
        case.stopped = True


def _pause(hands: Hands, cases: Sequence[Case]) -> None:
    """Pause them, each between two of its health checks.

    All are in the journal before the first is: nobody stands still for the time that takes.
    """
    if not cases:
        return
    with hands.step:
        hands.record(*(_made(case, "pause", case.before.started) for case in cases))
        for case in cases:
            hands.check()
            await_gap(hands.engine, case.id, case.name, hands.check, at_most=WITHIN_SECONDS)
            case.begin()
            try:
                with door(f"pause container {case.name}"):
                    hands.engine.api.pause(case.id)
            except EngineError as error:
                _excuse(hands.engine, case, error)


def _made(case: Case, action: Literal["pause", "stop"], started: str) -> Change:
    return replace(
        case.claim,
        action=action,
        at=time.time(),
        started=started,
        stop_seconds=case.before.stop_seconds,
    )


def _excuse(engine: Engine, case: Case, error: EngineError) -> None:
    """A container that has ended meanwhile need not be paused; nor one that is, whatever the engine says."""
    found = condition(engine, case.id, case.name)
    if found is not None and found.works:
        raise QuiesceFailed(
            error.message, hint="choose quiesce none for it, or look at the engine"
        ) from error
    case.ended = None if found is None or found.running else found
