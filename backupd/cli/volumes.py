"""`backupd volumes`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from backupd import cron
from backupd.cli.output import print_json, print_table, say, speak
from backupd.cli.words import when
from backupd.engine.discovery import survey
from backupd.errors import BackupdError
from backupd.protection import Policy, Protection
from backupd.repository import Repository
from backupd.settings import Settings
from backupd.wiring import connected, last_success, opened, protections, zone


@dataclass(frozen=True)
class _Line:
    protection: Protection
    last: datetime | None
    next: datetime | None


def run(arguments: Namespace, settings: Settings) -> int:
    """List the engine's volumes and how each is protected."""
    speak(settings)
    with connected(settings) as engine:
        found = protections(settings, survey(engine))
    if arguments.unprotected:
        found = tuple(protection for protection in found if protection.policy is None)
    now = datetime.now(zone(settings))
    with _repository(settings) as repository:
        lines = [_line(protection, repository, settings.host, now) for protection in found]
    if arguments.json:
        print_json([_as_json(line) for line in lines])
        return 0
    print_table(
        ("VOLUME", "PROTECTED", "SCHEDULE", "BECAUSE", "LAST SNAPSHOT", "NEXT RUN"),
        (_cells(line, now) for line in lines),
    )
    for line in lines:
        for text in (*line.protection.errors, *line.protection.warnings):
            say(f"{line.protection.volume.name}: {text}")
    return 0


@contextmanager
def _repository(settings: Settings) -> Iterator[Repository | None]:
    """The repository; without one the list is still worth printing."""
    with ExitStack() as stack:
        try:
            repository = stack.enter_context(opened(settings))
        except BackupdError as error:
            say(f"backupd: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
            repository = None
        yield repository


def _line(protection: Protection, repository: Repository | None, host: str, now: datetime) -> _Line:
    name, policy = protection.volume.name, protection.policy
    last = last_success(repository, host, name) if repository else None
    return _Line(protection, last, cron.parse(policy.schedule, seed=name).next(now) if policy else None)


def _cells(line: _Line, now: datetime) -> tuple[str, ...]:
    protection = line.protection
    state = "yes" if protection.policy else "ERROR" if protection.errors else "no"
    schedule = protection.policy.schedule if protection.policy else "-"
    last, coming = when(line.last, now), when(line.next, now)
    return (protection.volume.name, state, schedule, protection.origin, last, coming)


def _as_json(line: _Line) -> dict[str, Any]:
    protection, policy = line.protection, line.protection.policy
    return {
        "volume": protection.volume.name,
        "project": protection.volume.project,
        "driver": protection.volume.driver,
        "protected": policy is not None,
        "origin": protection.origin,
        "policy": _policy_as_json(policy) if policy else None,
        "last_snapshot": line.last.isoformat() if line.last else None,
        "next_run": line.next.isoformat() if line.next else None,
        "errors": protection.errors,
        "warnings": protection.warnings,
    }


def _policy_as_json(policy: Policy) -> dict[str, Any]:
    # The address of a ping is a secret: whoever has it can send one.
    ping = "(set)" if policy.ping else None
    return {**asdict(policy), "retention": str(policy.retention), "ping": ping}
