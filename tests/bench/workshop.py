"""What a run makes on the engine and on the disk, and how all of it goes away again."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TOOLS = "backupd-test-tools"
HERE = Path(__file__).resolve().parent

_TEST_LABEL = "backupd.test=true"


class BenchError(Exception):
    """A step of the benchmark failed: what it ran and what that said."""


class Workshop:
    """Volumes, containers and directories of one run."""

    def __init__(self, root: Path) -> None:
        self.run_id = uuid.uuid4().hex[:8]
        self._label = f"bench.run={self.run_id}"
        self._root = root / self.run_id
        self._volumes: list[str] = []

    def directory(self, name: str) -> Path:
        """A new empty directory; containers see it under the same path."""
        path = self._root / name
        path.mkdir(parents=True)
        return path

    def volume(self, name: str, *labels: str) -> str:
        """A new empty volume; its full name."""
        full = self.reserve(name)
        self._docker("volume", "create", *_labels(_TEST_LABEL, self._label, *labels), full)
        return full

    def reserve(self, name: str) -> str:
        """A volume name that somebody else will create and that goes away like our own."""
        full = f"backupd-bench-{self.run_id}-{name}"
        self._volumes.append(full)
        return full

    def container(
        self,
        image: str,
        command: Sequence[str],
        mounts: Sequence[str],
        env: Mapping[str, str] | None = None,
        *flags: str,
    ) -> list[str]:
        """The `docker run` command line of a throwaway container; without network unless a flag says so."""
        variables = [f"--env={name}={value}" for name, value in (env or {}).items()]
        binds = [f"--volume={mount}" for mount in mounts]
        label = _labels(_TEST_LABEL, self._label)
        network = [] if any(flag.startswith("--network=") for flag in flags) else ["--network=none"]
        return [*_run(*network, *label, *binds, *variables, *flags), image, *command]

    def start(self, image: str, command: Sequence[str], mounts: Sequence[str], *flags: str) -> str:
        """Start a container that stays; its id."""
        argv = self.container(image, command, mounts, None, "--detach", *flags)
        argv.remove("--rm")
        return run(argv).strip()

    def execute(self, container: str, *command: str) -> str:
        """Run a command in a container that `start` has started; what it printed."""
        return self._docker("exec", container, *command)

    def stop(self, container: str) -> None:
        """Stop a container, giving it a minute, and remove it with its anonymous volumes."""
        self._docker("stop", "--time", "60", container)
        self._docker("rm", "--volumes", container)

    def remove_volume(self, full: str) -> None:
        """Remove a volume of this run."""
        self._docker("volume", "rm", full)
        self._volumes.remove(full)

    def shell(self, script: str, *mounts: str) -> str:
        """What a shell script prints in a container of the test tools."""
        return run(self.container(TOOLS, ["sh", "-ec", script], mounts))

    def stored_bytes(self, directory: Path) -> int:
        """The sum of the sizes of the files in a directory, whoever owns them."""
        script = "find /d -type f -printf '%s\\n' | awk '{s += $1} END {printf \"%d\", s}'"
        return int(self.shell(script, f"{directory}:/d:ro"))

    def clean_up(self) -> None:
        """Remove everything that this run has made, going on where something cannot be removed."""
        for container in self._users():
            _attempt("docker", "rm", "--force", "--volumes", container)
        for volume in self._volumes:
            _attempt("docker", "volume", "rm", "--force", volume)
        if self._root.exists():
            _attempt(
                *self.container(TOOLS, ["find", "/d", "-mindepth", "1", "-delete"], [f"{self._root}:/d"])
            )
            _attempt("rm", "-rf", str(self._root))

    def _users(self) -> Iterator[str]:
        filters = [f"label={self._label}", *(f"volume={volume}" for volume in self._volumes)]
        for one in filters:
            yield from self._docker("ps", "--all", "--quiet", "--filter", one).split()

    @staticmethod
    def _docker(*arguments: str) -> str:
        return run(["docker", *arguments])


@contextmanager
def workshop(root: Path) -> Iterator[Workshop]:
    """A workshop that is cleaned up whatever happens in it."""
    made = Workshop(root)
    try:
        yield made
    finally:
        say("cleaning up")
        made.clean_up()


def run(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """What a command prints; `BenchError` with its last words where it fails."""
    done = subprocess.run(argv, env=env, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(argv)}: exit {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def say(text: str) -> None:
    """Tell whoever waits what is being done."""
    print(f"[bench] {text}", file=sys.stderr, flush=True)


def _run(*flags: str) -> list[str]:
    return ["docker", "run", "--rm", *flags]


def _labels(*labels: str) -> list[str]:
    return [f"--label={label}" for label in labels]


def _attempt(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        say(f"could not clean up: {' '.join(argv)}: {done.stderr.strip()}")
