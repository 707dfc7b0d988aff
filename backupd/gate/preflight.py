"""Have volumes saved: by the daemon, or where it is away, by a backup of the gate's own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupd.gate.asking import ask
from backupd.gate.trouble import Trouble


@dataclass(frozen=True)
class Verdict:
    """Whether a volume may go: it is saved, or nobody protects it. Else why not, and what to do."""

    ok: bool
    reason: str | None = None
    hint: str | None = None


class Preflight:
    """From names of volumes to verdicts. It takes as long as the backups do."""

    def __init__(self, daemon: Path, command: Sequence[str]) -> None:
        self._daemon = daemon
        self._command = command
        """What does the same as the daemon, given `--json -- VOLUME…`."""

    def __call__(self, volumes: Sequence[str]) -> dict[str, Verdict]:
        """A verdict for each volume, once every snapshot is committed. Never raises."""
        try:
            try:
                answer = self._of_daemon(volumes)
            except Trouble:
                answer = self._of_command(volumes)
            return {volume: _verdict(answer, volume) for volume in volumes}
        except Trouble as trouble:
            return dict.fromkeys(volumes, Verdict(False, str(trouble)))

    def _of_daemon(self, volumes: Sequence[str]) -> Any:
        """`Trouble` if the daemon is away, goes away, or does not know what is asked."""
        status, answer = ask(self._daemon, "POST", "/preflight", {"volumes": list(volumes)}, timeout=None)
        if status != 200:
            raise Trouble(f"the daemon answered {status}")
        return answer

    def _of_command(self, volumes: Sequence[str]) -> Any:
        try:
            done = subprocess.run(
                [*self._command, "--json", "--", *volumes],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except OSError as error:
            raise Trouble(f"the daemon is away, and {self._command[0]} does not run: {error}") from error
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise Trouble(_why(done)) from None


def _verdict(answer: Any, volume: str) -> Verdict:
    """What was said of the volume; nothing that cannot be understood lets a volume go."""
    try:
        said = answer["volumes"][volume]
        return Verdict(said["ok"] is True, said.get("reason"), said.get("hint"))
    except (TypeError, KeyError, AttributeError):
        return Verdict(False, "the answer of the pre-flight cannot be understood")


def _why(done: subprocess.CompletedProcess[bytes]) -> str:
    """What the command said on its standard error, as JSON or in words."""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else f"it ended with {done.returncode}"
    try:
        return f"{json.loads(last)['error']}"
    except (ValueError, TypeError, KeyError):
        return f"the backup could not be started: {last}"
