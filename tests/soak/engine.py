"""An engine whose dockerd can be killed alone: its containers live on, and the next dockerd finds them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.docker.own_engine import OwnEngine


class MortalEngine(OwnEngine):
    """A dockerd in namespaces that outlive it: another process keeps them."""

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="backupd-soak-")), None)
        self._keeper = subprocess.Popen(["unshare", "--net", "--mount", "sleep", "infinity"])

    def launch(self) -> None:
        """Start dockerd and do not wait."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("nsenter", "-t", str(self._keeper.pid), "--net", "--mount", "dockerd"),
                    *("--config-file", str(self.daemon_json), "--data-root", f"{self.directory}/data"),
                    *("--exec-root", f"{self.directory}/exec", "-p", str(self.pid_file), "-H", self.host),
                    *("--bridge", "none", "--iptables=false", "--ip-masq=false"),
                ],
                env={**os.environ, "PATH": self._path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def crash(self) -> None:
        """Kill dockerd with -9 and nothing else, and start it again."""
        assert self._process is not None
        self._process.kill()
        self._begin_again()

    def bounce(self) -> None:
        """Stop dockerd as a service manager does, its containers with it, and start it again."""
        assert self._process is not None
        self._process.terminate()
        self._begin_again()

    def remove(self) -> None:
        """End everything and remove the directory."""
        with suppress(AssertionError):
            super().remove()
        self._keeper.kill()
        self._keeper.wait()

    def _begin_again(self) -> None:
        assert self._process is not None
        self._process.wait()
        self._process = None
        self.start()
