"""Why the gate cannot say that a volume is saved."""

from __future__ import annotations


class Trouble(Exception):
    """The reason, for the person who wanted to remove the volume."""
