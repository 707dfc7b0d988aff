"""The tools that are compared, each as its users run it in front of a volume."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.bench.measure import Usage, in_container, opaque
from tests.bench.workshop import HERE, TOOLS, Workshop, run

ALPINE = "alpine:3.22"


class Contender(Protocol):
    """A tool with one repository of its own for one volume."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def incremental(self) -> bool:
        """Whether a second backup differs from the first."""

    @property
    def repository(self) -> Path:
        """The directory on this machine that it reads when it restores; empty where it has another place."""

    def stored_bytes(self) -> int:
        """The size of what it has stored."""

    def requests(self) -> int | None:
        """How many requests its server has answered so far; None where it needs none."""

    def prepare(self) -> None:
        """Make the repository; not measured."""

    def backup(self, volume: str) -> Usage:
        """Save the volume."""

    def restore(self, volume: str, target: str) -> Usage:
        """Bring the last backup of `volume` back into `target`, a volume that this creates."""


class InDirectory:
    """What contenders have in common whose repository is a directory."""

    _shop: Workshop
    repository: Path

    def stored_bytes(self) -> int:
        return self._shop.stored_bytes(self.repository)

    def requests(self) -> int | None:
        return None


class OneLiner(InDirectory):
    """`docker run … alpine tar czf`, as found in every tutorial."""

    name = "one-liner tar czf"
    incremental = False

    def __init__(self, shop: Workshop, directory: Path) -> None:
        self._shop, self.repository = shop, directory

    def prepare(self) -> None:
        pass

    def backup(self, volume: str) -> Usage:
        mounts = [f"{volume}:/data:ro", f"{self.repository}:/backup"]
        return self._alpine(["tar", "czf", "/backup/x.tar.gz", "-C", "/data", "."], mounts)

    def restore(self, volume: str, target: str) -> Usage:
        mounts = [f"{target}:/data", f"{self.repository}:/backup:ro"]
        return self._alpine(["tar", "xzf", "/backup/x.tar.gz", "-C", "/data"], mounts)

    def _alpine(self, command: Sequence[str], mounts: Sequence[str]) -> Usage:
        return opaque(self._shop.container(ALPINE, command, mounts))


class TarZstd(InDirectory):
    """`tar | zstd -3 -T0` in one container."""

    name = "tar | zstd -3 -T0"
    incremental = False

    def __init__(self, shop: Workshop, directory: Path) -> None:
        self._shop, self.repository = shop, directory

    def prepare(self) -> None:
        pass

    def backup(self, volume: str) -> Usage:
        script = "tar -C /data -cf - . | zstd -q -3 -T0 -f -o /backup/x.tar.zst"
        return wrapped(
            self._shop, ["sh", "-ec", script], [f"{volume}:/data:ro", f"{self.repository}:/backup"]
        )

    def restore(self, volume: str, target: str) -> Usage:
        script = "zstd -q -dc /backup/x.tar.zst | tar -C /data -xf -"
        return wrapped(
            self._shop, ["sh", "-ec", script], [f"{target}:/data", f"{self.repository}:/backup:ro"]
        )


class Restic(InDirectory):
    """restic with zstd as it does by default (level 3); it always encrypts."""

    incremental = True

    def __init__(self, shop: Workshop, directory: Path, binary: Path) -> None:
        self._shop, self._binary = shop, binary
        self.name = " ".join(run([str(binary), "version"]).split()[:2])
        self.repository, self._cache = _made(directory / "repository"), _made(directory / "cache")

    def prepare(self) -> None:
        self._restic(["init"], [])

    def backup(self, volume: str) -> Usage:
        # a container's own host name is new each time, and restic would look for no parent
        command = ["backup", "--compression", "auto", "--host", "bench", "/data"]
        return self._restic(command, [f"{volume}:/data:ro"])

    def restore(self, volume: str, target: str) -> Usage:
        return self._restic(["restore", "latest", "--target", "/"], [f"{target}:/data"])

    def _restic(self, command: Sequence[str], mounts: Sequence[str]) -> Usage:
        env = {
            "RESTIC_PASSWORD": "bench",
            "RESTIC_REPOSITORY": "/repository",
            "RESTIC_CACHE_DIR": "/cache",
        }
        own = [f"{self._binary}:/bin/restic:ro", f"{self.repository}:/repository", f"{self._cache}:/cache"]
        return wrapped(self._shop, ["/bin/restic", *command], [*own, *mounts], env)


class Borg(InDirectory):
    """borg without encryption, with zstd level 3, from unpacked Debian packages."""

    incremental = True

    def __init__(self, shop: Workshop, directory: Path, root: Path) -> None:
        self._shop, self._root, self._archives = shop, root, 0
        self.repository, self._cache = _made(directory / "repository"), _made(directory / "cache")
        self.name = run(shop.container(TOOLS, self._command("--version"), *self._place([]))).strip()

    def prepare(self) -> None:
        self._borg(["init", "--encryption", "none", "/repository"], [])

    def backup(self, volume: str) -> Usage:
        self._archives += 1
        name = f"/repository::{self._archives}"
        return self._borg(["create", "--compression", "zstd,3", name, "/data"], [f"{volume}:/data:ro"])

    def restore(self, volume: str, target: str) -> Usage:
        return self._borg(["extract", "--numeric-ids", f"/repository::{self._archives}"], [f"{target}:/data"])

    def _borg(self, command: Sequence[str], mounts: Sequence[str]) -> Usage:
        mounts, env = self._place(mounts)
        return wrapped(self._shop, self._command(*command), mounts, env, "--workdir=/")

    def _command(self, *arguments: str) -> list[str]:
        return ["python3", "/borg/usr/bin/borg", *arguments]

    def _place(self, mounts: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        libraries = next(self._root.glob("usr/lib/*-linux-gnu")).name
        env = {
            "PYTHONPATH": "/borg/usr/lib/python3/dist-packages",
            "LD_LIBRARY_PATH": f"/borg/usr/lib/{libraries}",
            "BORG_BASE_DIR": "/cache",
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }
        own = [f"{self._root}:/borg:ro", f"{self.repository}:/repository", f"{self._cache}:/cache"]
        return [*own, *mounts], env


def find_restic() -> Path | None:
    """restic on the PATH, where `tests/engine/env` puts what was fetched."""
    found = shutil.which("restic")
    return Path(found).resolve() if found else None


def fetch_borg() -> Path | None:
    """The unpacked packages of borg, fetched if need be."""
    fetched = subprocess.run([HERE / "fetch-borg"], stdout=subprocess.PIPE, text=True, check=False)
    return Path(fetched.stdout.strip()) if fetched.returncode == 0 else None


def wrapped(
    shop: Workshop,
    command: Sequence[str],
    mounts: Sequence[str],
    env: Mapping[str, str] | None = None,
    *flags: str,
) -> Usage:
    """Run a command in a container of the test tools and take what it used itself."""
    measured = ["python3", "/bench/inside.py", *command]
    return in_container(shop.container(TOOLS, measured, [*mounts, f"{HERE}:/bench:ro"], env, *flags))


def _made(path: Path) -> Path:
    path.mkdir()
    return path
