"""What an examination found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from backupd.errors import BackupdError

Verdict = Literal["good", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that is as it should be, worth knowing, or keeps backups from being made; and what to do."""

    verdict: Verdict
    subject: str
    text: str
    hint: str | None = None


def good(subject: str, text: str) -> Finding:
    """All is well with it."""
    return Finding("good", subject, text)


def note(subject: str, text: str, hint: str | None = None) -> Finding:
    """It works, and something about it should be known."""
    return Finding("note", subject, text, hint)


def bad(subject: str, text: str, hint: str | None = None) -> Finding:
    """It does not work."""
    return Finding("bad", subject, text, hint)


Examination = Callable[[], Iterator[Finding]]


def examined(subject: str, examination: Examination) -> Iterator[Finding]:
    """What an examination finds; an error that ends it is its last finding, and others go on."""
    try:
        yield from examination()
    except BackupdError as error:
        yield bad(subject, error.message, error.hint)
