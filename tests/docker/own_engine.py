"""Engines that a test has to itself: it may restart, reconfigure, kill and empty them.

Each has a network namespace of its own (a dockerd told to have no bridge deletes the docker0 it sees), and a
mount namespace of its own: its /run/docker/plugins is a directory of the test's, and what it mounts goes away
with it. Containers on it can only have `network_mode: none`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

PATIENCE_SECONDS = 60
CACHE = Path(os.environ.get("TESTS_CACHE") or Path(__file__).parents[2] / ".cache").resolve()
NEWER = CACHE / "debian"
_TOOLS = ("bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr", "sbin/dockerd", "sbin/docker-proxy")
_ENTER = 'mount --bind "$1" /run/docker/plugins && shift && exec "$@"'
_NO_NETWORK = ("--bridge", "none", "--iptables=false", "--ip-masq=false")


class OwnEngine:
    """A dockerd on a directory of its own; `stop` leaves nothing of it running."""

    def __init__(self, directory: Path, bin_dir: Path | None) -> None:
        self.directory = directory
        self.socket = directory / "docker.sock"
        self.plugins = directory / "plugins"
        """What this engine sees as /run/docker/plugins."""
        self.daemon_json = directory / "daemon.json"
        self.pid_file = directory / "pid"
        self.log = directory / "dockerd.log"
        self._path = os.pathsep.join(
            [*([str(bin_dir)] if bin_dir else []), os.environ["PATH"], "/usr/sbin:/sbin"]
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.plugins.mkdir()
        self.daemon_json.write_text("{}\n", encoding="utf-8")

    @property
    def host(self) -> str:
        """What DOCKER_HOST is for it."""
        return f"unix://{self.socket}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a client of this engine."""
        return {**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0"}

    @property
    def pid(self) -> int:
        """The process id of dockerd."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start dockerd and wait until it answers."""
        self.launch()
        self.wait_until(self.answers)

    def launch(self) -> None:
        """Start dockerd and do not wait."""
        assert self._process is None
        Path("/run/docker/plugins").mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("unshare", "--net", "--mount", "sh", "-c", _ENTER, "sh", str(self.plugins)),
                    *(
                        "dockerd",
                        "--config-file",
                        str(self.daemon_json),
                        "--data-root",
                        f"{self.directory}/data",
                    ),
                    *("--exec-root", f"{self.directory}/exec", "-p", str(self.pid_file), "-H", self.host),
                    *_NO_NETWORK,
                ],
                env={**os.environ, "PATH": self._path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def answers(self) -> bool:
        """Does it serve its API?"""
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.settimeout(PATIENCE_SECONDS)
            client.connect(str(self.socket))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in client.recv(100)
        return False

    def ended(self) -> int | None:
        """The exit code of dockerd once it has ended by itself."""
        assert self._process is not None
        return self._process.poll()

    def reload(self) -> None:
        """Have dockerd read its daemon.json again, in its own time."""
        os.kill(self.pid, signal.SIGHUP)

    def stop(self) -> None:
        """End dockerd as a service manager would, its containers with it; killed if that takes too long."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End dockerd, containerd and all containers at once."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        self._kill_the_rest()
        shutil.rmtree(self.directory / "exec", ignore_errors=True)
        self.pid_file.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """End everything and remove the directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def load(self, *images: str) -> None:
        """Copy images from the main engine."""
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as save:
            subprocess.run(
                ["docker", "load", "-q"],
                stdin=save.stdout,
                env=self.environment,
                check=True,
                capture_output=True,
            )
        assert save.returncode == 0

    def docker(
        self, *words: str, code: int | None = 0, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a docker command on it; the exit code must be `code`, if that is not None."""
        done = subprocess.run(
            ["docker", *words],
            env={**self.environment, **(env or {})},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE_SECONDS,
            check=False,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def info(self) -> dict[str, Any]:
        """What `docker info` says."""
        said: dict[str, Any] = json.loads(self.docker("info", "--format", "{{json .}}").stdout)
        return said

    def volumes(self) -> set[str]:
        """The names of the volumes it has."""
        return set(self.docker("volume", "ls", "-q").stdout.split())

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait for the condition; dockerd must not end meanwhile."""
        wait_until(lambda: condition() or self._process is None or self._process.poll() is not None)
        assert self._process is None or self._process.poll() is None, self.log.read_text(errors="replace")[
            -4000:
        ]

    def _kill_the_rest(self) -> None:
        """What has this directory in its command line (containerd, shims) and its children (containers)."""
        for _ in range(100):
            left = _processes_of(f"{self.directory}/")
            if not left:
                return
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                _thaw(pid)
            threading.Event().wait(0.1)


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.05)


def _thaw(pid: int) -> None:
    """Let a process of a paused container go on: it does not die before."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "freezer" in controllers:
                Path(f"/sys/fs/cgroup/freezer{path}/freezer.state").write_text("THAWED")
            elif not controllers:
                Path(f"/sys/fs/cgroup{path}/cgroup.freeze").write_text("0")


def _processes_of(directory: str) -> set[int]:
    mine: set[int] = set()
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            pid = int(entry.name)
            command = (entry / "cmdline").read_bytes()
            parents[pid] = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            if b"containerd" in command and directory.encode() in command:
                mine.add(pid)
    shims = set(mine)
    return mine | {pid for pid, parent in parents.items() if parent in shims}


def versions() -> list[str]:
    """The engines there may be: the system's, and the newer one that `tests/engine/fetch` unpacks."""
    return ["system", "newer"]


def why_not(version: str) -> str | None:
    """Why such an engine cannot be started here, or None."""
    if os.geteuid() != 0:
        return "an engine of a test's own needs root"
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True).returncode != 0:
        return "an engine of a test's own needs namespaces of its own"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if version == "newer" and not (NEWER / "usr/sbin/dockerd").exists():
        return "the newer engine has not been fetched"
    if version == "system" and not shutil.which("dockerd", path=path):
        return "this machine has no dockerd"
    return None


def make(version: str) -> OwnEngine:
    """An engine that has not been started yet, in a directory with a short name (sockets need that)."""
    directory = Path(tempfile.mkdtemp(prefix="backupd-own-"))
    if version == "system":
        return OwnEngine(directory, None)
    tools = directory / "bin"
    tools.mkdir()
    for tool in _TOOLS:
        (tools / Path(tool).name).symlink_to(NEWER / "usr" / tool)
    _link_runc(tools)
    return OwnEngine(directory, tools)


def _link_runc(tools: Path) -> None:
    """The system's runc, or the one that `tests/engine/second` fetched: the newer one needs a newer libc."""
    found = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    (tools / "runc").symlink_to(found or CACHE / "second-engine/runc/usr/sbin/runc")


@pytest.fixture(scope="module", params=versions())
def own_engine(request: pytest.FixtureRequest) -> Iterator[OwnEngine]:
    """An engine of this module's own, in turn the system's and the newer one; without images and volumes."""
    reason = why_not(request.param)
    if reason:
        pytest.skip(reason)
    engine = make(request.param)
    try:
        engine.start()
        yield engine
    finally:
        engine.remove()
