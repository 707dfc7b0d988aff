"""`backupd health`: asks the daemon, and brings next to nothing along, for it is called all the time."""

from __future__ import annotations

import json
import sys
import tomllib
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backupd.errors import BackupdError, ConfigError, DaemonUnreachable
from backupd.unixhttp import SOCKET, ask


def run(arguments: Namespace, environ: Mapping[str, str]) -> int:
    """Print whether all is well, and every reason if not; 0 or 1."""
    health = _asked(state_dir(arguments.config, environ))
    if arguments.json:
        sys.stdout.write(json.dumps(health, ensure_ascii=False, indent=2) + "\n")
    elif health["ok"]:
        count = health["protected"]
        sys.stdout.write(f"ok: {count} {'volume' if count == 1 else 'volumes'} protected\n")
    else:
        for problem in health["problems"]:
            subject = f"{problem['volume']}: " if problem["volume"] else ""
            sys.stdout.write(f"{subject}{problem['text']}\n    what to do: {problem['hint']}\n")
    return 0 if health["ok"] else 1


def state_dir(config: Path | None, environ: Mapping[str, str]) -> Path:
    """The state directory of the settings, read without them; what is wrong otherwise, others tell.

    `ConfigError` where the file or the variable's file cannot be read.
    """
    try:
        if environ.get("BACKUPD_STATE_DIR"):
            return Path(environ["BACKUPD_STATE_DIR"])
        if environ.get("BACKUPD_STATE_DIR_FILE"):
            return Path(Path(environ["BACKUPD_STATE_DIR_FILE"]).read_text(encoding="utf-8").strip())
        path = config or Path(environ.get("BACKUPD_CONFIG") or "/etc/backupd/config.toml")
        named = config is not None or bool(environ.get("BACKUPD_CONFIG"))
        values = tomllib.loads(path.read_text(encoding="utf-8")) if named or path.exists() else {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the settings: {error}") from error
    return Path(str(values.get("state_dir", "/var/lib/backupd")))


def _asked(directory: Path) -> dict[str, Any]:
    try:
        status, body = ask(directory / SOCKET, "GET", "/health")
        if status not in (200, 503):
            raise BackupdError(f"the daemon answered {status}", hint="see its log")
        answer: dict[str, Any] = json.loads(body)
        return answer
    except DaemonUnreachable as error:
        problem = {"kind": "daemon", "volume": None, "since": None, "text": error.message, "hint": error.hint}
        return {"ok": False, "protected": None, "problems": [problem]}
