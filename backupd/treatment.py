"""What is done to a container before its volume is read, and undone afterwards, as values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from backupd.errors import ConfigError

Mode = Literal["none", "pause", "stop"]
"""From the weakest to the strongest."""

HOOK_SECONDS = 60.0
"""How long a hook may take where nobody says otherwise."""


@dataclass(frozen=True)
class Hook:
    """A command that runs inside a container, as the engine takes it: words, without a shell around them."""

    command: tuple[str, ...]
    user: str | None = None
    timeout_seconds: float = HOOK_SECONDS


@dataclass(frozen=True)
class Treatment:
    """How one container is calmed: first the `pre` hooks, then the mode; undone backwards, `post` last."""

    mode: Mode = "pause"
    pre: tuple[Hook, ...] = ()
    post: tuple[Hook, ...] = ()


def command(text: str) -> tuple[str, ...]:
    """The words of a hook: a JSON array as it stands, any other text for the `sh -c` of its container.

    ConfigError where there is nothing to run.
    """
    if not text.strip().startswith("["):
        words: object = ["sh", "-c", text] if text.strip() else []
    else:
        try:
            words = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"begins like a JSON array of words and is none: {error}") from error
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ConfigError("should be a command: text for sh -c, or a JSON array of words")
    if not words[0]:
        raise ConfigError("has no command as its first word")
    return tuple(words)


def merged(treatments: Iterable[Treatment]) -> Treatment:
    """What serves several volumes of one container at once: the strongest mode, and every hook once."""
    given = tuple(treatments)
    return Treatment(
        mode=max((each.mode for each in given), key=get_args(Mode).index, default="none"),
        pre=tuple(dict.fromkeys(hook for each in given for hook in each.pre)),
        post=tuple(dict.fromkeys(hook for each in given for hook in each.post)),
    )
