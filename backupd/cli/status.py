"""`backupd status`: what the daemon does now, asked through its socket."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from backupd.cli.output import print_json, print_table
from backupd.cli.words import size, when
from backupd.errors import DaemonUnreachable
from backupd.opening import zone
from backupd.settings import Settings
from backupd.status import Last, Status
from backupd.unixhttp import SOCKET, ask


def run(arguments: Namespace, settings: Settings) -> int:
    """Print what runs, what waits, when each volume's turn comes and how its last run ended."""
    answer = _asked(settings)
    if arguments.json:
        print_json(answer)
        return 0
    try:
        status = Status.from_json(answer)
    except (KeyError, TypeError, ValueError) as error:
        raise DaemonUnreachable(
            "the daemon's answer is not understood", hint="after an upgrade the daemon must be restarted"
        ) from error
    _show(status, datetime.now(zone(settings)))
    return 0


def _asked(settings: Settings) -> dict[str, Any]:
    code, body = ask(settings.state_dir / SOCKET, "GET", "/status")
    if code != 200:
        raise DaemonUnreachable(f"the daemon answered {code}", hint="its log says why")
    answer: dict[str, Any] = json.loads(body)
    return answer


def _show(status: Status, now: datetime) -> None:
    daemon = status.daemon
    away = ", which is away" if daemon.engine_away else ""
    sys.stdout.write(
        f"backupd {daemon.version}, pid {daemon.pid}, since {when(daemon.since, now)}\n"
        f"engine {daemon.engine}{away}; storage {daemon.storage}\n"
    )
    for paragraph in (_running(status), _waiting(status, now)):
        sys.stdout.write("\n" + "\n".join(paragraph) + "\n")
    if status.next or status.last:
        sys.stdout.write("\n")
        print_table(("VOLUME", "NEXT RUN", "LAST RUN", "RESULT", "SKIPPED"), _volumes(status, now))
    for name, at in sorted(status.upkeep.items()):
        sys.stdout.write(f"\n{name}: {when(at, now)}")
    sys.stdout.write("\n")


def _running(status: Status) -> Iterator[str]:
    if not status.running:
        yield "nothing runs"
    for each in status.running:
        group = f" ({each.group})" if each.group != each.volume else ""
        total = f" of {size(each.bytes_total)}" if each.bytes_total else ""
        yield f"{each.volume}{group}: {each.phase}, {size(each.bytes)}{total}, {each.seconds:.0f} s"


def _waiting(status: Status, now: datetime) -> Iterator[str]:
    if not status.waiting:
        yield "nothing waits"
    for number, each in enumerate(status.waiting, 1):
        volumes = f" ({', '.join(each.volumes)})" if each.volumes != (each.name,) else ""
        yield f"{number}. {each.name}{volumes}, since {when(each.since, now)}"


def _volumes(status: Status, now: datetime) -> Iterator[tuple[str, ...]]:
    for volume in sorted(status.next.keys() | status.last.keys()):
        last = status.last.get(volume)
        yield (
            volume,
            when(status.next.get(volume), now),
            when(last.at if last else None, now),
            _result(last),
            str(status.skipped.get(volume, 0)),
        )


def _result(last: Last | None) -> str:
    if last is None:
        return "-"
    return f"{last.outcome}: {last.error}" if last.error else last.outcome
