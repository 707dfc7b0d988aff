"""The process: a socket from systemd or one of its own, and the gate behind it."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from backupd import __version__
from backupd.gate.asking import Engine
from backupd.gate.flights import Flights
from backupd.gate.gate import Gate
from backupd.gate.passes import Passes
from backupd.gate.preflight import Preflight
from backupd.gate.server import serve

PLUGIN = "backupd-gate"
SOCKET = Path(f"/run/docker/plugins/{PLUGIN}.sock")
DAEMON = Path("/var/lib/backupd/backupd.sock")
ENGINE = Path("/var/run/docker.sock")
_FIRST_PASSED = 3
"""The descriptor of the socket that a service manager hands over: see sd_listen_fds(3)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal ends the process; 1 if there is nothing to serve on."""
    chosen = _arguments(argv)
    try:
        listener = _passed(os.environ) or _bound(chosen.socket)
    except OSError as error:
        sys.stderr.write(f"backupd-gate: cannot listen on {chosen.socket}: {error}\n")
        return 1
    config = ["--config", str(chosen.config)] if chosen.config else []
    command = [sys.executable, "-m", "backupd", *config, "guard", "preflight"]
    preflight = Preflight(chosen.daemon, command)
    gate = Gate(Engine(chosen.docker), Flights(preflight), Passes())
    with suppress(KeyboardInterrupt):
        serve(listener, gate.answer)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="backupd-gate",
        description="The authorization plugin that keeps the Docker Engine from removing what is not saved."
        " `backupd gate install` puts it before the engine.",
    )
    parser.add_argument("--version", action="version", version=f"backupd-gate {__version__}")
    add = parser.add_argument
    add(
        "--socket",
        type=Path,
        default=SOCKET,
        metavar="PATH",
        help="where the engine asks (default: %(default)s)",
    )
    add("--daemon", type=Path, default=DAEMON, metavar="PATH", help="backupd's socket (default: %(default)s)")
    add(
        "--docker",
        type=Path,
        default=ENGINE,
        metavar="PATH",
        help="the engine's socket (default: %(default)s)",
    )
    add("--config", type=Path, metavar="FILE", help="settings of a backup while the daemon is away")
    return parser.parse_args(argv)


def _passed(environment: Mapping[str, str]) -> socket.socket | None:
    """The socket that systemd holds, so that no request is lost while this process is away."""
    if environment.get("LISTEN_PID") != str(os.getpid()) or environment.get("LISTEN_FDS") != "1":
        return None
    return socket.socket(fileno=_FIRST_PASSED)


def _bound(path: Path) -> socket.socket:
    """A socket that only this user may use; what a dead process left there is replaced."""
    with socket.socket(socket.AF_UNIX) as probe, suppress(FileNotFoundError, ConnectionRefusedError):
        probe.connect(str(path))
        raise FileExistsError("another process answers there")
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(128)
    return listener


if __name__ == "__main__":
    sys.exit(main())
