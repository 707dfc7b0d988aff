"""`backupd gate`."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict

from backupd.cli.output import print_json, say, speak
from backupd.errors import UsageError
from backupd.gate.installation import Places, Standing, allow, install, standing, uninstall
from backupd.settings import Settings


def run(arguments: Namespace, settings: Settings) -> int:
    """Put the gate before the engine, take it away, say how it stands, or give leave."""
    speak(settings)
    if bool(arguments.volumes) != (arguments.action == "allow"):
        raise UsageError(
            "`backupd gate allow` takes the names of volumes, the other actions take none",
            hint="`backupd gate --help` has examples",
        )
    places = Places(arguments.socket, arguments.docker, arguments.daemon_json, arguments.pid_file)
    if arguments.action == "install":
        install(places)
        say(f"from now on the engine asks {places.plugin} before it removes a volume")
    elif arguments.action == "uninstall":
        uninstall(places)
        say(f"the engine no longer asks {places.plugin}")
    elif arguments.action == "allow":
        allow(places, arguments.volumes)
        say(f"within ten minutes, once, and unsaved: {', '.join(arguments.volumes)}")
    else:
        return _tell(standing(places), arguments.json)
    return 0


def _tell(found: Standing, as_json: bool) -> int:
    """Print how the gate stands; 1 if removals pass it by."""
    if as_json:
        print_json({**asdict(found), "well": found.well})
    else:
        for line in _lines(found):
            print(line)  # noqa: T201
    return 0 if found.well else 1


def _lines(found: Standing) -> list[str]:
    engine = f" (engine {found.engine_version})" if found.engine_version else ""
    lines = [
        f"the engine asks it: {'yes' if found.active else 'no'}{engine}",
        f"it is in the engine's file: {'yes' if found.configured else 'no'}",
        f"it answers: {'yes, version ' + found.version if found.version else 'no'}",
    ]
    lines += [f"warning: {found.engine_weakness}"] if found.engine_weakness else []
    return lines + ([f"trouble: {found.trouble}"] if found.trouble else [])
