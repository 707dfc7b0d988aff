"""What is saved together at one time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from backupd.engine.discovery import Survey
from backupd.group import Group, groups
from backupd.protection import Policy, Protection


@dataclass(frozen=True)
class Job:
    """A volume alone, or the members of a group under the group's name; `key` is unique among all.

    `schedule` is a cron expression, `seed` what its `H` is derived from. `claims` names the volumes, and the
    containers that write to them: what nobody else may work on meanwhile.
    """

    key: str
    name: str
    seed: str
    schedule: str
    members: Mapping[str, Policy]
    claims: frozenset[str]


def jobs(found: Iterable[Protection], seen: Survey) -> dict[str, Job]:
    """A job for all that is protected together, by its key."""
    return {group.key: _job(group, seen) for group in groups(found)}


def _job(group: Group, seen: Survey) -> Job:
    members = {each.volume.name: each.policy for each in group.members if each.policy}
    claims = frozenset(_claims(members, seen))
    return Job(group.key, group.name, group.seed, group.schedule, members, claims)


def _claims(volumes: Iterable[str], seen: Survey) -> Iterator[str]:
    for volume in volumes:
        yield f"volume {volume}"
        yield from (f"container {user.id}" for user in seen.users(volume) if user.writes(volume))
