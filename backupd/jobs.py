"""What is saved together at one time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from backupd.engine.discovery import Survey
from backupd.protection import Policy, Protection


@dataclass(frozen=True)
class Job:
    """A volume alone, or the members of a group under the group's name.

    `schedule` is a cron expression, `seed` what its `H` is derived from. `claims` names the volumes, and the
    containers that must stand still for them: what nobody else may work on meanwhile.
    """

    name: str
    seed: str
    schedule: str
    members: Mapping[str, Policy]
    claims: frozenset[str]


def jobs(found: Iterable[Protection], seen: Survey) -> dict[str, Job]:
    """A job for each of what is protected, by its name."""
    return {
        each.volume.name: Job(
            each.volume.name,
            each.volume.name,
            each.policy.schedule,
            {each.volume.name: each.policy},
            frozenset(_claims(each.volume.name, each.policy, seen)),
        )
        for each in found
        if each.policy
    }


def _claims(volume: str, policy: Policy, seen: Survey) -> Iterable[str]:
    yield f"volume {volume}"
    if policy.quiesce != "none":
        yield from (f"container {user.id}" for user in seen.users(volume) if user.writes(volume))
