"""What may be typed: every command with its options, its help and its examples."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import datetime, time
from pathlib import Path
from typing import NoReturn

from backupd import __version__
from backupd.errors import UsageError
from backupd.retention import Retention

EXIT_CODES = """exit codes:
  0 done   1 failed   2 usage   3 done in part   4 damaged data   75 locked by another run   130 interrupted
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; what it cannot understand it raises as `UsageError`."""
    parser = _Parser(
        prog="backupd",
        description="Backs up Docker volumes on schedule, deduplicated, and restores them with one command.",
        epilog="`backupd COMMAND --help` explains a command, with examples.\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"backupd {__version__}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (TOML)")
    parser.set_defaults(json=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (summary, examples, arguments) in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog="examples:\n" + "".join(f"  {line}\n" for line in examples.splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # SUPPRESS: without the option here, one given before the command stays.
        command.add_argument(
            "--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="settings file (TOML)"
        )
        arguments(command)
    return parser


def moment(text: str) -> datetime:
    """A time as people write it, local unless it names a zone; a date alone is the end of that day."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write it like 2026-11-23, '2026-11-23 14:30' or 2026-11-23T14:30:00Z"
        ) from None
    if len(text) <= len("2026-11-23"):
        value = datetime.combine(value.date(), time.max)
    return value.astimezone()


def share(text: str) -> float:
    """A share as people write it, `5%`, between 0 (left out) and 1."""
    number = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) *%", text)
    value = float(number[1]) / 100 if number else 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no share; write it like --read-data=5%, and volumes before it"
        )
    return value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"`{self.prog} --help` shows what it takes")


def _run(command: argparse.ArgumentParser) -> None:
    pass


def _init(command: argparse.ArgumentParser) -> None:
    _json(command)


def _volumes(command: argparse.ArgumentParser) -> None:
    command.add_argument("--unprotected", action="store_true", help="only those that are not backed up")
    _json(command)


def _backup(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "volumes",
        nargs="*",
        metavar="VOLUME",
        help="volumes to save, labelled or not (then with the defaults)",
    )
    command.add_argument("--all", action="store_true", help="every protected volume")
    command.add_argument("--project", metavar="P", help="every protected volume of this compose project")
    _json(command)


def _status(command: argparse.ArgumentParser) -> None:
    _json(command)


def _snapshots(command: argparse.ArgumentParser) -> None:
    command.add_argument("volume", nargs="?", metavar="VOLUME", help="only this volume's")
    command.add_argument("--host", metavar="H", help="only those of this host")
    _json(command)


def _show(command: argparse.ArgumentParser) -> None:
    _snapshot(command)
    command.add_argument(
        "path", nargs="?", metavar="PATH", help="only this file, or what is below this directory"
    )
    _json(command)


def _restore(command: argparse.ArgumentParser) -> None:
    command.add_argument("volume", nargs="?", metavar="VOLUME", help="volume whose snapshot to restore")
    command.add_argument("--project", metavar="P", help="every volume of this compose project, one moment")
    when = command.add_mutually_exclusive_group()
    when.add_argument(
        "--snapshot", metavar="ID", default="latest", help="id, its unique beginning, or latest (default)"
    )
    when.add_argument("--at", type=moment, metavar="TIME", help="the newest snapshot not after this time")
    command.add_argument("--host", metavar="H", help="take the snapshots of this host")
    command.add_argument("--to", metavar="NEW", help="restore into a volume of this name instead")
    over = command.add_mutually_exclusive_group()
    over.add_argument(
        "--replace",
        action="store_true",
        help="in the place of what the volume holds; containers that use it are stopped and started again",
    )
    over.add_argument(
        "--in-place-wipe",
        action="store_true",
        help="where there is no room for both: remove the volume's files first",
    )
    command.add_argument(
        "--no-safety-snapshot", action="store_true", help="do not save what the volume holds before it goes"
    )
    command.add_argument(
        "--path",
        action="append",
        metavar="P",
        help="only this file, directory or pattern like 'uploads/**/*.png'; with --output, and repeatable",
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="into this new directory of this machine, not into a volume",
    )
    command.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    command.add_argument("--yes", action="store_true", help="do not ask (needed where there is no terminal)")
    _json(command)


def _export(command: argparse.ArgumentParser) -> None:
    _snapshot(command)
    command.add_argument(
        "path", nargs="?", metavar="PATH", help="write this one file instead of the tar stream"
    )
    command.add_argument(
        "-o", "--output", metavar="FILE", default="-", help="file to write; - is standard output (default)"
    )


def _forget(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "volumes",
        nargs="*",
        metavar="VOLUME",
        help="volumes, or patterns like 'shop_*' (default: those of this host that the engine has)",
    )
    command.add_argument("--host", metavar="H", help="forget snapshots of this host, not of this machine's")
    command.add_argument(
        "--keep",
        type=Retention.parse,
        metavar="POLICY",
        help="keep this, whatever labels and settings say, like last=1,daily=7,within=30d",
    )
    command.add_argument("--snapshot", metavar="ID", help="forget this one snapshot (id or unique beginning)")
    command.add_argument(
        "--even-last", action="store_true", help="with --snapshot: also the last good one of its volume"
    )
    command.add_argument(
        "--accept-collapse",
        action="store_true",
        help="the volumes named are right to hold next to nothing: let their retention go on",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="print each snapshot with the reason and change nothing"
    )
    command.add_argument("--yes", action="store_true", help="do not ask (needed where there is no terminal)")
    _json(command)


def _verify(command: argparse.ArgumentParser) -> None:
    command.add_argument("volumes", nargs="*", metavar="VOLUME", help="only the snapshots of these volumes")
    command.add_argument("--host", metavar="H", help="only those of this host")
    command.add_argument(
        "--read-data",
        nargs="?",
        type=share,
        const=1.0,
        default=0.0,
        metavar="N%",
        help="read every chunk and check its hash, or so much of the data, what was read longest ago first",
    )
    _json(command)


def _prune(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    command.add_argument("--yes", action="store_true", help="do not ask (needed where there is no terminal)")
    _json(command)


def _passed_on(command: argparse.ArgumentParser) -> None:
    # Never parsed here but for the help: see `guarded`.
    command.add_argument("words", nargs=argparse.REMAINDER, metavar="…", help="as docker takes them")


def _guard(command: argparse.ArgumentParser) -> None:
    command.add_argument("verb", choices=["preflight"], metavar="preflight", help="save them, read that back")
    command.add_argument("volumes", nargs="+", metavar="VOLUME", help="volumes that are about to be removed")
    _json(command)


def _hold(command: argparse.ArgumentParser) -> None:
    change = command.add_mutually_exclusive_group()
    change.add_argument("--off", action="store_true", help="let go of all, until --on")
    change.add_argument("--on", action="store_true", help="let the daemon hold again what was released")
    _json(command)


def _release(command: argparse.ArgumentParser) -> None:
    command.add_argument("volume", metavar="VOLUME", help="volume to save and let go of")
    command.add_argument(
        "--no-backup",
        action="store_true",
        help="let go without a snapshot: what the volume holds now can then be deleted for good",
    )
    _json(command)


def _gate(command: argparse.ArgumentParser) -> None:
    command.add_argument("action", choices=("install", "status", "uninstall", "allow"), help="what to do")
    command.add_argument("volumes", nargs="*", metavar="VOLUME", help="allow: what may go unsaved, once")
    for option, default, text in (
        ("--socket", "/run/docker/plugins/backupd-gate.sock", "where the gate answers"),
        ("--docker", "/var/run/docker.sock", "where the engine answers"),
        ("--daemon-json", "/etc/docker/daemon.json", "the engine's settings"),
        ("--pid-file", "/var/run/docker.pid", "the engine's process id"),
    ):
        command.add_argument(
            option, type=Path, default=Path(default), metavar="PATH", help=f"{text} (default: %(default)s)"
        )
    _json(command)


def _health(command: argparse.ArgumentParser) -> None:
    _json(command)


def _notify(command: argparse.ArgumentParser) -> None:
    command.add_argument("--test", action="store_true", required=True, help="send a test to every channel")
    _json(command)


def _snapshot(command: argparse.ArgumentParser) -> None:
    command.add_argument("snapshot", metavar="SNAPSHOT", help="snapshot id, or its unique beginning")


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")


def _doctor(command: argparse.ArgumentParser) -> None:
    _json(command)


_COMMANDS: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], None]]] = {
    "run": (
        "the daemon: back up labelled volumes on their schedules until told to stop",
        "backupd run\nbackupd run --config /etc/backupd.toml",
        _run,
    ),
    "init": (
        "make the repository on the configured storage, once",
        "backupd init\nBACKUPD_STORAGE=/mnt/backups backupd init",
        _init,
    ),
    "volumes": (
        "list volumes: what is protected, why, last snapshot, next run; and what is not",
        "backupd volumes\nbackupd volumes --unprotected",
        _volumes,
    ),
    "backup": (
        "save volumes now",
        "backupd backup shop_postgres_data\nbackupd backup --project shop\nbackupd backup --all",
        _backup,
    ),
    "snapshots": (
        "list snapshots, newest last",
        "backupd snapshots\nbackupd snapshots shop_postgres_data --json",
        _snapshots,
    ),
    "show": (
        "list the files of a snapshot",
        "backupd show 20261123T0200\nbackupd show 20261123T0200 base/1",
        _show,
    ),
    "restore": (
        "put a volume back from a snapshot",
        "backupd restore shop_postgres_data\n"
        "backupd restore shop_postgres_data --to look_at_it --at '2026-11-23 14:30'\n"
        "backupd restore shop_postgres_data --replace --dry-run\n"
        "backupd restore shop_uploads --path 'avatars/*.png' --output /tmp/avatars\n"
        "backupd restore --project shop --yes",
        _restore,
    ),
    "export": (
        "write a snapshot as a tar stream, or one file of it",
        "backupd export 20261123T0200 | tar tv\n"
        "backupd export 20261123T0200 -o shop.tar\n"
        "backupd export 20261123T0200 etc/app.conf -o -",
        _export,
    ),
    "verify": (
        "prove that snapshots are whole: packs, chunk lists, indexes",
        "backupd verify\nbackupd verify shop_postgres_data --read-data\nbackupd verify --read-data=5%",
        _verify,
    ),
    "forget": (
        "delete the snapshots that retention does not keep; never a volume's last good one",
        "backupd forget --dry-run\n"
        "backupd forget shop_postgres_data --keep last=1,daily=7\n"
        "backupd forget --snapshot 20261123T0200\n"
        "backupd forget shop_uploads --accept-collapse",
        _forget,
    ),
    "compose": (
        "docker compose, which saves the volumes of a project before it removes them",
        "backupd compose up -d\nbackupd compose down -v\nbackupd compose down -v --force-without-backup",
        _passed_on,
    ),
    "docker": (
        "docker, which saves volumes before it removes them",
        "backupd docker volume rm shop_postgres_data\nbackupd docker system prune --volumes",
        _passed_on,
    ),
    "hold": (
        "list the volumes that a container holds against deletion, or let go of all",
        "backupd hold\nbackupd hold --off",
        _hold,
    ),
    "release": (
        "take a last snapshot of a held volume and let it go",
        "backupd release shop_postgres_data\nbackupd release shop_uploads --no-backup",
        _release,
    ),
    "guard": (
        "save volumes that somebody is about to remove, and say of each whether it may go",
        "backupd guard preflight shop_postgres_data --json",
        _guard,
    ),
    "status": (
        "what the daemon does now: what runs and waits, when each volume is next, how its last run ended",
        "backupd status\nbackupd status --json",
        _status,
    ),
    "health": (
        "whether all is well, and if not: why, and what to do; exit code 1 then",
        "backupd health\nbackupd health --json",
        _health,
    ),
    "notify": (
        "try out the channels that tell of failures and recoveries",
        "backupd notify --test",
        _notify,
    ),
    "prune": (
        "free the space of packs that no snapshot names: condemn them, and delete those condemned earlier",
        "backupd prune --dry-run\nbackupd prune --yes\nBACKUPD_PRUNE__GRACE=0s backupd prune --yes",
        _prune,
    ),
    "gate": (
        "have the engine ask before it removes a volume, whoever wants that: an authorization plugin",
        "backupd gate install\nbackupd gate status\nbackupd gate allow shop_cache\nbackupd gate uninstall",
        _gate,
    ),
    "doctor": (
        "look for what is wrong with this set-up, and say how to mend it",
        "backupd doctor\nbackupd doctor --json",
        _doctor,
    ),
}
