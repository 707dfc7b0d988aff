"""`backupd guard preflight`."""

from __future__ import annotations

import threading
from argparse import Namespace
from collections.abc import Iterable, Sequence
from functools import partial

from backupd.cli.output import print_json, say, speak
from backupd.cli.progress import cancellable
from backupd.engine.client import Engine
from backupd.engine.discovery import survey
from backupd.errors import BackupdError, Interrupted
from backupd.guard.answer import answer
from backupd.guard.saving import preflight
from backupd.guard.service import known
from backupd.ledger import Ledger
from backupd.operations.preflight import Verdict
from backupd.protection import Protection
from backupd.settings import Settings
from backupd.wiring import assembled, connected


def run(arguments: Namespace, settings: Settings) -> int:
    """Save the volumes and read that back; 1 unless every one of them may go. One that is no more may."""
    speak(settings)
    with connected(settings) as engine:
        verdicts = saved(settings, engine, list(dict.fromkeys(arguments.volumes)))
    if arguments.json:
        print_json({"volumes": {name: verdict.as_json() for name, verdict in verdicts.items()}})
    else:
        for verdict in verdicts.values():
            say(_told(verdict))
    return 0 if all(verdict.ok for verdict in verdicts.values()) else 1


def saved(settings: Settings, engine: Engine, names: Sequence[str]) -> dict[str, Verdict]:
    """Save the volumes in this process; of each, whether it may go."""
    cancel = threading.Event()
    ledger = Ledger(settings.state_dir)
    try:
        with assembled(settings, engine, say, cancel) as context, cancellable(cancel):
            seen = survey(engine)
            ready = preflight(lambda: settings, context, (ledger,), say, cancel)
            return answer(names, seen, known(settings, seen, ledger), ready)
    except Interrupted:
        raise
    except BackupdError as error:
        # What nobody protects may go all the same.
        seen = survey(engine)
        return answer(names, seen, known(settings, seen, ledger), partial(_refused, error))


def _refused(error: BackupdError, protections: Iterable[Protection]) -> dict[str, Verdict]:
    names = [protection.volume.name for protection in protections]
    return {name: Verdict(name, ok=False, reason=error.message, hint=error.hint) for name in names}


def _told(verdict: Verdict) -> str:
    if not verdict.ok:
        return f"{verdict.volume} may not go: {verdict.reason}"
    facts = [f"snapshot {verdict.snapshot}"] if verdict.snapshot else []
    return f"{verdict.volume} may go: {', '.join([*facts, *([verdict.note] if verdict.note else [])])}"
