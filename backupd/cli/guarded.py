"""`backupd compose` and `backupd docker`: the words are docker's, and nothing is parsed twice."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, Interrupted
from backupd.guard.argv import Command, compose, docker
from backupd.guard.real import FORCE, become

if TYPE_CHECKING:
    from backupd.engine.client import Engine
    from backupd.guard.wrapper import Guarded
    from backupd.settings import Settings

_VERBS = {"compose": compose, "docker": docker}


def passed_on(words: Sequence[str]) -> tuple[Path | None, str, tuple[str, ...]] | None:
    """The settings file, `compose` or `docker`, and what is for them; None for any other command."""
    config, at = None, 0
    while at < len(words) and words[at].startswith("-"):
        if words[at] == "--config" and at + 1 < len(words):
            config, at = Path(words[at + 1]), at + 1
        elif words[at].startswith("--config="):
            config = Path(words[at].partition("=")[2])
        else:
            return None
        at += 1
    if at < len(words) and words[at] in _VERBS:
        return config, words[at], tuple(words[at + 1 :])
    return None


def run(config: Path | None, verb: str, words: Sequence[str]) -> int:
    """Be docker, unless volumes would go: then save them first. The exit code is docker's, or 1."""
    forced = FORCE in words and bool(_VERBS[verb]([w for w in words if w != FORCE]).removal)
    command = _VERBS[verb]([word for word in words if word != FORCE] if forced else words)
    if not command.removal:
        become(command.words)
    try:
        return _guarded(config, command, forced=forced)
    except Interrupted:
        raise
    except BackupdError as error:
        way_out = [] if forced else [f"to remove without a snapshot, add {FORCE}"]
        hint = "; or ".join(([error.hint] if error.hint else []) + way_out)
        raise BackupdError(f"nothing was removed: {error.message}", hint=hint or None) from error


def _guarded(config: Path | None, command: Command, *, forced: bool) -> int:
    # Not above: what is only passed on does not wait for all this.
    from backupd.cli.output import say, speak
    from backupd.guard.wrapper import Guarded
    from backupd.settings import load
    from backupd.wiring import connected

    with ExitStack() as stack:
        try:
            settings = load(config, os.environ)
            speak(settings)
            engine, cancel = stack.enter_context(connected(settings)), threading.Event()
            guarded = Guarded(command, settings, engine, say, cancel)
        except BackupdError as error:
            if not forced:
                raise
            say(f"{FORCE}: nobody has looked at what goes: {error.message}")
            become(command.words)
        return _run(guarded, command, settings, engine, cancel, forced=forced)


def _run(
    guarded: Guarded,
    command: Command,
    settings: Settings,
    engine: Engine,
    cancel: threading.Event,
    *,
    forced: bool,
) -> int:
    from backupd.cli.output import say
    from backupd.cli.progress import cancellable
    from backupd.wiring import assembled

    if not guarded.plan.items:
        become(command.words)
    say(f"these volumes may go:\n{guarded.plan}")
    guarded.check(forced=forced)
    if forced:
        guarded.give_up()
    if forced or not guarded.plan.of("save"):
        return guarded.run()
    with assembled(settings, engine, say, cancel) as context:
        with cancellable(cancel):
            verdicts = guarded.save(context)
        code = guarded.run()
        if back := guarded.way_back(verdicts, context.repository):
            say(back)
    return code
