"""backupd as a contender, and what only it is asked: its daemon's memory, how long containers are paused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.bench.contenders import InDirectory
from tests.bench.measure import Usage, on_host, resident_bytes
from tests.bench.workshop import TOOLS, BenchError, Workshop, run

_IDLE_SECONDS = 20
_STOP_SECONDS = 30


class Backupd(InDirectory):
    """backupd's command line, from this source tree."""

    name = "backupd"
    incremental = True

    def __init__(self, shop: Workshop, directory: Path) -> None:
        self._shop, self._directory = shop, directory
        self.repository = directory / "repository"
        self.repository.mkdir()

    def prepare(self) -> None:
        run(self._command("init"), _environment())
        # builds the helper image, once for an engine
        tiny = self._shop.volume(f"tiny-{self._directory.name}")
        run(self._command("backup", tiny), _environment())
        self._shop.remove_volume(tiny)

    def backup(self, volume: str) -> Usage:
        usage, _ = on_host(self._command("backup", volume), _environment())
        return usage

    def restore(self, volume: str, target: str) -> Usage:
        usage, _ = on_host(self._command("restore", volume, "--to", target, "--yes"), _environment())
        return usage

    def newest(self, volume: str) -> Pause:
        """What the newest snapshot's manifest says of its backup's time."""
        printed = run(self._command("snapshots", volume, "--json"), _environment())
        manifest = json.loads(printed)[-1]
        took = datetime.fromisoformat(manifest["finished"]) - datetime.fromisoformat(manifest["started"])
        return Pause(manifest["quiesced"]["seconds"], took.total_seconds())

    def newest_bytes(self, volume: str) -> int:
        """How long the tar stream of the newest snapshot is."""
        printed = run(self._command("snapshots", volume, "--json"), _environment())
        return int(json.loads(printed)[-1]["bytes"]["tar"])

    def idle_bytes(self, volume: str) -> int:
        """The most memory that a daemon has used which has one volume to care for and nothing to do."""
        log = self._directory / "daemon.log"
        with log.open("wb") as out:
            daemon = subprocess.Popen(
                self._command("run", only=volume), env=_environment(), stdout=out, stderr=out
            )
            try:
                time.sleep(_IDLE_SECONDS)
                if daemon.poll() is not None:
                    raise BenchError(f"the daemon has ended: {log.read_text()[-2000:]}")
                return resident_bytes(daemon.pid)
            finally:
                _end(daemon)

    def _command(self, *words: str, only: str | None = None) -> list[str]:
        config = self._directory / "backupd.toml"
        config.write_text(_config(self._settings(), only))
        return [sys.executable, "-m", "backupd", "--config", str(config), *words]

    def _settings(self) -> dict[str, object]:
        return {
            "storage": str(self.repository),
            "state_dir": str(self._directory / "state"),
            "instance": f"bench-{self._shop.run_id}",
            "host": "bench",
        }


@dataclass(frozen=True)
class Pause:
    """Seconds for which containers were paused, and seconds of the backup around them."""

    seconds: float
    of_seconds: float


def pause_of_backup(shop: Workshop, backupd: Backupd, volume: str) -> Pause:
    """Save a volume for the first time while a running container mounts it."""
    backupd.prepare()
    container = shop.start(TOOLS, ["sleep", "infinity"], [f"{volume}:/data"], "--init")
    backupd.backup(volume)
    shop.stop(container)
    return backupd.newest(volume)


def _config(settings: Mapping[str, object], only: str | None) -> str:
    # JSON's texts and lists are TOML's
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    if only:
        # whoever's labelled volumes there are on this engine, the benchmark's daemon leaves them alone
        lines += [f'[[volume]]\nmatch = "{only}"\nenable = true', '[[volume]]\nmatch = "*"\nenable = false']
    return "\n".join(lines) + "\n"


def _environment() -> dict[str, str]:
    """This process's environment without settings of backupd that somebody has made for something else."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BACKUPD_")}


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
