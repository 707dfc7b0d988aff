"""How docker and compose read their options (pflag's rules), and which of them take a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})


@dataclass(frozen=True)
class Known:
    """The options of one command: `valued` take a value, `switches` do not. One letter is a shorthand."""

    valued: frozenset[str] = frozenset()
    switches: frozenset[str] = frozenset()

    def __or__(self, other: Known) -> Known:
        return Known(self.valued | other.valued, self.switches | other.switches)


@dataclass(frozen=True)
class Read:
    """What was read: each option with its value, in order, the operands, and where the first of these stands.

    `doubtful` says that an option was not known, so that the word after it may be its value or not.
    """

    options: tuple[tuple[str, str], ...]
    operands: tuple[str, ...]
    first: int
    doubtful: bool

    def on(self, *names: str) -> bool:
        """Whether one of these switches was ever set to true."""
        return any(name in names and value in _TRUE for name, value in self.options)

    def last(self, *names: str) -> str | None:
        """The value that counts of an option with these names."""
        return next((value for name, value in reversed(self.options) if name in names), None)


def known(valued: str = "", switches: str = "") -> Known:
    """The options, each by its name without dashes, separated by spaces."""
    return Known(frozenset(valued.split()), frozenset(switches.split()))


def read(words: Sequence[str], options: Known, *, mixed: bool) -> Read:
    """Read options and operands; where they are not `mixed`, everything from the first operand on is one.

    An option that is not known counts as a switch that is on.
    """
    found: list[tuple[str, str]] = []
    operands: list[str] = []
    first = at = 0
    while at < len(words):
        word, at = words[at], at + 1
        if word == "--":
            first = first if operands else at
            operands += words[at:]
            break
        if len(word) < 2 or not word.startswith("-"):
            first = first if operands else at - 1
            operands.append(word)
            if not mixed:
                operands += words[at:]
                break
            continue
        given = _long(word[2:]) if word.startswith("--") else _short(word[1:], options)
        name, value = given[-1]
        if value is None and name in options.valued:
            given[-1] = (name, words[at] if at < len(words) else "")
            at += 1
        found += [(name, "true" if value is None else value) for name, value in given]
    names = options.valued | options.switches
    return Read(
        tuple(found),
        tuple(operands),
        first if operands else len(words),
        any(name not in names for name, _ in found),
    )


def _long(text: str) -> list[tuple[str, str | None]]:
    name, given, value = text.partition("=")
    return [(name, value if given else None)]


def _short(letters: str, options: Known) -> list[tuple[str, str | None]]:
    """A cluster such as `-fsv`, `-t10`, `-vt=10`: a letter that takes a value takes the rest."""
    found: list[tuple[str, str | None]] = []
    while letters:
        letter, letters = letters[0], letters[1:]
        if len(letters) > 1 and letters.startswith("="):
            return [*found, (letter, letters[1:])]
        if letter in options.valued and letters:
            return [*found, (letter, letters)]
        found.append((letter, None))
    return found
