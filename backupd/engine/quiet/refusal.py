"""What is not done to a container, found out before any container is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from backupd.engine.quiet.condition import Condition
from backupd.errors import QuiesceFailed
from backupd.treatment import Treatment

_PAUSE = "choose pause for it: backupd.quiesce=pause"


@dataclass(frozen=True)
class Sharing:
    """A running container, and the id of the one whose network it uses."""

    container: str
    name: str
    owner: str


def refuse(name: str, treatment: Treatment, condition: Condition, *, limit_seconds: float) -> None:
    """`QuiesceFailed` with the reason where the treatment would do harm, or cannot be given."""
    if condition.paused and (treatment.pre or treatment.post):
        raise QuiesceFailed(
            f"container {name} is paused, and no hook can run in it",
            hint=f"wake it (docker unpause {name}), or take the hooks away",
        )
    if treatment.mode != "stop" or not condition.running:
        return
    if condition.auto_remove:
        raise QuiesceFailed(
            f"container {name} would be removed when it is stopped: it was started with --rm", hint=_PAUSE
        )
    if condition.swarm_task:
        raise QuiesceFailed(
            f"container {name} is a task of a swarm service, which would replace it when it is stopped",
            hint=_PAUSE,
        )
    if not 0 <= condition.stop_seconds < limit_seconds:
        given = f"{condition.stop_seconds} s" if condition.stop_seconds >= 0 else "for ever"
        raise QuiesceFailed(
            f"container {name} may take {given} to stop, and quiesce.limit is {limit_seconds:g} s",
            hint=f"raise quiesce.limit, or {_PAUSE}",
        )


def refuse_to_cut_off(stopped: Mapping[str, str], sharing: Iterable[Sharing]) -> None:
    """`QuiesceFailed` if one that goes on lives in the network of one that is stopped: it would lose that.

    `stopped` are names by id.
    """
    for each in sharing:
        if each.owner in stopped and each.container not in stopped:
            owner = stopped[each.owner]
            raise QuiesceFailed(
                f"container {each.name} uses the network of {owner} and would lose it when that is stopped",
                hint=f"choose pause for {owner}: backupd.quiesce=pause",
            )
