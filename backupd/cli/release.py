"""`backupd release`."""

from __future__ import annotations

from argparse import Namespace

from backupd.cli.guard import saved
from backupd.cli.output import print_json, say, speak
from backupd.engine.client import Engine
from backupd.errors import BackupdError
from backupd.operations.hold import release
from backupd.operations.preflight import Verdict
from backupd.settings import Settings
from backupd.wiring import connected


def run(arguments: Namespace, settings: Settings) -> int:
    """Save the volume, read that back, and hold it no more; nothing is let go of where that fails."""
    speak(settings)
    name = arguments.volume
    with connected(settings) as engine:
        engine.volume(name)
        verdict = None if arguments.no_backup else _saved(engine, settings, name)
        held = release(engine, name, state_dir=settings.state_dir)
    if arguments.json:
        print_json({"volume": name, "held": held, "snapshot": verdict.snapshot if verdict else None})
    else:
        say(_told(name, verdict, held=held))
    return 0


def _saved(engine: Engine, settings: Settings, name: str) -> Verdict:
    verdict = saved(settings, engine, [name])[name]
    if not verdict.ok:
        raise BackupdError(
            f"{name} is not released: {verdict.reason}",
            hint=verdict.hint or "--no-backup lets go without a snapshot",
        )
    return verdict


def _told(name: str, verdict: Verdict | None, *, held: bool) -> str:
    saved = f"snapshot {verdict.snapshot}" if verdict and verdict.snapshot else "NOT SAVED"
    if verdict and verdict.note:
        saved += f" ({verdict.note})"
    state = "is held no more" if held else "was not held, and will not be"
    return f"{name} {state}; {saved}; to remove it: docker volume rm {name}"
