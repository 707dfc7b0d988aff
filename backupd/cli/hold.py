"""`backupd hold`."""

from __future__ import annotations

from argparse import Namespace

from backupd.cli.output import print_json, print_table, say, speak
from backupd.engine.client import Engine
from backupd.engine.discovery import survey
from backupd.engine.hold import holds
from backupd.errors import VolumeNotFound
from backupd.operations.hold import Released, release, wanted
from backupd.settings import Settings
from backupd.wiring import connected, instance_name, protections


def run(arguments: Namespace, settings: Settings) -> int:
    """List what is held and what is not though it should be; or let go of all; or undo that."""
    speak(settings)
    with connected(settings) as engine:
        if arguments.off:
            _let_go(engine, settings)
        if arguments.on:
            for name in Released(settings.state_dir).names():
                Released(settings.state_dir).forget(name)
        _print(_states(engine, settings), as_json=arguments.json)
    return 0


def _let_go(engine: Engine, settings: Settings) -> None:
    """Let go of what this installation holds, and of what it would hold."""
    own = {each.volume for each in holds(engine) if each.instance == instance_name(settings)}
    for name in sorted(own.union(wanted(protections(settings, survey(engine))))):
        try:
            if release(engine, name, state_dir=settings.state_dir):
                say(f"{name} is held no more")
        except VolumeNotFound:
            continue


def _states(engine: Engine, settings: Settings) -> dict[str, tuple[str, str]]:
    """For each volume that is or should be held: how it is, and the container."""
    found = {each.volume: ("held", each.name) for each in holds(engine)}
    for name in wanted(protections(settings, survey(engine))):
        if name not in found:
            released = Released(settings.state_dir).has(name, engine.created(name))
            found[name] = ("released" if released else "waits for the daemon", "")
    return dict(sorted(found.items()))


def _print(states: dict[str, tuple[str, str]], *, as_json: bool) -> None:
    if as_json:
        print_json([{"volume": name, "state": s, "container": c or None} for name, (s, c) in states.items()])
    else:
        rows = [(name, state, container) for name, (state, container) in states.items()]
        print_table(("VOLUME", "STATE", "CONTAINER"), rows)
