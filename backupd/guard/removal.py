"""What a command or request may take away. Standard library only: the gate shares it."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Project:
    """A compose project: its name, and the names of the volumes that its files describe as its own."""

    name: str
    volumes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Removal:
    """The volumes that may go, never fewer; false where none can.

    `names` are named one by one. `prunable` is every volume to which no container refers, `unused` those too
    to which only containers refer that do not run. `project` is every volume of the compose project in
    question, `anonymous` only those of its volumes that have no name of their own, `containers` the same
    volumes of single containers, by name or id.
    """

    names: frozenset[str] = frozenset()
    prunable: bool = False
    unused: bool = False
    project: bool = False
    anonymous: bool = False
    containers: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))

    def __or__(self, other: Removal) -> Removal:
        return Removal(*(getattr(self, field.name) | getattr(other, field.name) for field in fields(self)))

    def __le__(self, other: Removal) -> bool:
        """Whether everything that this takes, the other takes as well."""
        return self | other == other
