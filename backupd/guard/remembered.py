"""Volumes that were protected while somebody used them: labels of containers go with the containers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from backupd.engine.discovery import Survey
from backupd.protection import Policy, Protection


def remembered(
    protections: Iterable[Protection], seen: Survey, saved: Callable[[str], bool], policy: Policy
) -> list[Protection]:
    """The same, but a volume counts as protected if it was `saved` before and nobody is left who could say.

    An `enable=false` in a label or a rule is a word on it. `protections` are of the same look as `seen`.
    """
    return [
        replace(each, policy=policy, origin="saved before, and no container is left that could be labelled")
        if each.unasked and not seen.users(each.volume.name) and saved(each.volume.name)
        else each
        for each in protections
    ]
