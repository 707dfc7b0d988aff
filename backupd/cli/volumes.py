"""`backupd volumes`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any

from backupd.cli.output import print_json, print_lines, print_table, say, speak, terminal_columns
from backupd.cli.words import relative, size
from backupd.databases import Database
from backupd.engine.client import Engine
from backupd.engine.clues import find_database
from backupd.engine.discovery import Survey, survey
from backupd.errors import BackupdError
from backupd.gaps import Gap
from backupd.group import Group, groups
from backupd.opening import opened, zone
from backupd.operations.successes import newest
from backupd.operations.unprotected import unprotected
from backupd.protection import Policy, Protection
from backupd.settings import Settings
from backupd.wiring import connected, protections, schedule

_LOOKS = 8
"""So many volumes are looked at at once."""

_NARROW = ("VOLUME", "HOLDS", "PROTECTED", "SCHEDULE", "LAST", "NEXT")
_WIDE = (*_NARROW, "GROUP", "BECAUSE")
_WIDE_COLUMNS = 132


@dataclass(frozen=True)
class _Line:
    protection: Protection
    database: Database | None
    group: Group | None
    last: datetime | None
    next: datetime | None

    @property
    def remarks(self) -> Iterator[str]:
        """What a person should know of it."""
        yield from (*self.protection.errors, *self.protection.warnings)
        policy, database = self.protection.policy, self.database
        if policy and database and policy.quiesce == "none" and not policy.pre:
            yield f"{database.name} is read while it runs, and may not start from that; the default is pause"
        if policy and database and database.caveat and policy.quiesce == "pause":
            yield f"{database.name}: {database.caveat}"


def run(arguments: Namespace, settings: Settings) -> int:
    """List the engine's volumes and how each is protected, or what is not protected."""
    speak(settings)
    with connected(settings) as engine:
        seen = survey(engine)
        found = protections(settings, seen)
        if arguments.unprotected:
            return _print_gaps(unprotected(engine, seen, found), found, as_json=arguments.json)
        with ThreadPoolExecutor(_LOOKS) as pool:
            databases = list(pool.map(partial(_database, engine, seen), found))
    now = datetime.now(zone(settings))
    grouped = {name: group for group in groups(found) for name in group.volumes}
    last = _last(settings)
    lines = [
        _Line(
            protection,
            database,
            group := grouped.get(protection.volume.name),
            last.get(protection.volume.name),
            schedule(settings, group.seed, group.schedule).next(now) if group else None,
        )
        for protection, database in zip(found, databases, strict=True)
    ]
    if arguments.json:
        print_json([_as_json(line) for line in lines])
        return 0
    wide = (terminal_columns() or _WIDE_COLUMNS) >= _WIDE_COLUMNS
    print_table(
        _WIDE if wide else _NARROW,
        (cells if wide else cells[: len(_NARROW)] for cells in (_cells(line, now) for line in lines)),
        whole=_NARROW[1:],
    )
    for line in lines:
        for text in line.remarks:
            say(f"{line.protection.volume.name}: {text}")
    return 0


def _database(engine: Engine, seen: Survey, protection: Protection) -> Database | None:
    """What the volume holds, unless somebody has said that it is none of our business."""
    if protection.policy or protection.errors or protection.unasked:
        return find_database(engine, seen, protection.volume.name)
    return None


def _print_gaps(found: Sequence[Gap], protections: Sequence[Protection], *, as_json: bool) -> int:
    for protection in protections:
        for text in protection.errors:
            say(f"{protection.volume.name}: {text}")
    if as_json:
        print_json([asdict(gap) for gap in found])
        return 0
    for gap in found:
        print_lines(f"{gap.volume}{_content(gap)}", f"  {gap.reason}", f"  {gap.hint}")
    return 0


def _content(gap: Gap) -> str:
    if gap.content is None:
        return ""
    return f"  {'' if gap.content.whole else 'more than '}{size(gap.content.size_bytes)}"


def _last(settings: Settings) -> Mapping[str, datetime]:
    """When each newest snapshot was begun; without a repository the list is still worth printing."""
    try:
        with opened(settings) as repository:
            return {name: found.started for name, found in newest(repository, settings.host).items()}
    except BackupdError as error:
        say(f"backupd: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
        return {}


def _cells(line: _Line, now: datetime) -> tuple[str, ...]:
    protection, policy = line.protection, line.protection.policy
    return (
        protection.volume.name,
        line.database.name if line.database else "files" if policy or protection.unasked else "-",
        f"yes, {policy.quiesce}" if policy else "ERROR" if protection.errors else "no",
        policy.schedule if policy else "-",
        relative(line.last, now) if line.last else "-",
        relative(line.next, now) if line.next else "-",
        line.group.name if line.group else "-",
        protection.origin,
    )


def _as_json(line: _Line) -> dict[str, Any]:
    protection, policy = line.protection, line.protection.policy
    return {
        "volume": protection.volume.name,
        "project": protection.volume.project,
        "driver": protection.volume.driver,
        "protected": policy is not None,
        "origin": protection.origin,
        "policy": _policy(policy) if policy else None,
        "group": line.group.name if line.group else None,
        "database": asdict(line.database) if line.database else None,
        "last_snapshot": line.last.isoformat() if line.last else None,
        "next_run": line.next.isoformat() if line.next else None,
        "errors": protection.errors,
        "warnings": protection.warnings,
    }


def _policy(policy: Policy) -> dict[str, Any]:
    # The address of a ping is a secret: whoever has it can send one.
    ping = "(set)" if policy.ping else None
    said = sorted(policy.said)
    return {**asdict(policy), "retention": str(policy.retention), "ping": ping, "said": said}
