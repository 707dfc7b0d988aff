"""`backupd guard preflight`."""

from __future__ import annotations

import threading
from argparse import Namespace

from backupd.cli.output import print_json, say, speak
from backupd.cli.progress import cancellable
from backupd.engine.discovery import survey
from backupd.guard.wrapper import preflight
from backupd.operations.preflight import Verdict
from backupd.settings import Settings
from backupd.wiring import assembled, connected, protections


def run(arguments: Namespace, settings: Settings) -> int:
    """Save the volumes and read that back; 1 unless every one of them may go. One that is no more may."""
    speak(settings)
    cancel = threading.Event()
    with (
        connected(settings) as engine,
        assembled(settings, engine, say, cancel) as context,
        cancellable(cancel),
    ):
        names = dict.fromkeys(arguments.volumes)
        found = [each for each in protections(settings, survey(engine)) if each.volume.name in names]
        verdicts = {name: Verdict(name, ok=True, note="it is gone already") for name in names}
        verdicts |= preflight(settings, context, say, cancel)(found)
    if arguments.json:
        print_json({"volumes": {name: verdict.as_json() for name, verdict in verdicts.items()}})
    for verdict in verdicts.values():
        if not arguments.json:
            said = verdict.snapshot or verdict.note if verdict.ok else verdict.reason
            say(f"{verdict.volume}: {'may go' if verdict.ok else 'may not go'}: {said}")
    return 0 if all(verdict.ok for verdict in verdicts.values()) else 1
