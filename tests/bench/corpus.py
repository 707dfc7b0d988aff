"""The volumes that are backed up: how they are filled, changed and compared. Same seed, same files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tests.bench.workshop import HERE, TOOLS, Workshop, run

POSTGRES = "postgres:16-alpine"

_MB = 1_000_000
# an empty cluster with its log
_EMPTY_CLUSTER_BYTES = 75 * _MB
# one unit of pgbench's scale with its indexes
_SCALE_BYTES = 15 * _MB
_TRANSACTIONS_PER_SCALE = 10
# what a tree is said to be, and the flags of tar under which it then gives the same bytes
_LIKENESS = {
    "exact": "--format=posix --xattrs --xattrs-include=* --acls "
    "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
    "exact to the second": "--format=gnu",
    "all but times": "--format=gnu --mtime=@0",
}


@dataclass(frozen=True)
class Facts:
    """How many files and bytes a volume holds."""

    files: int
    size_bytes: int


@dataclass(frozen=True)
class Fingerprint:
    """Checksums of a tree, one for each degree of likeness."""

    checksums: tuple[str, ...]


class Corpus(Protocol):
    """A volume that can change by about one per cent, again and again."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def volume(self) -> str:
        """The volume's name on the engine."""

    def change(self, round_number: int) -> None:
        """Change about one per cent of it."""


class Mixed:
    """Text, binaries, a PostgreSQL data directory that was shut down cleanly, and incompressible data."""

    name = "mixed"

    def __init__(self, shop: Workshop, size_bytes: int, seed: int) -> None:
        self._shop, self._seed = shop, seed
        self._scale = max(1, (int(size_bytes * 0.4) - _EMPTY_CLUSTER_BYTES) // _SCALE_BYTES)
        self.volume = shop.volume(self.name)
        fifth = size_bytes // 5
        _generate(shop, self.volume, "mixed", seed, fifth, fifth, fifth)
        self._postgres("pgbench", "--initialize", "--quiet", f"--scale={self._scale}")

    def change(self, round_number: int) -> None:
        _generate(self._shop, self.volume, "change-mixed", self._seed, round_number)
        transactions = max(20, self._scale * _TRANSACTIONS_PER_SCALE)
        seed = f"--random-seed={self._seed + round_number}"
        self._postgres("pgbench", "--no-vacuum", f"--transactions={transactions}", seed)

    def _postgres(self, *command: str) -> None:
        """Run a command against the server, and stop the server so that all tools see the same bytes."""
        environment = ("--env=PGDATA=/data/pg", "--env=POSTGRES_HOST_AUTH_METHOD=trust")
        server = ["postgres", "-cfsync=off", "-cautovacuum=off", "-cmax_wal_size=64MB", "-cmin_wal_size=32MB"]
        mounts = [f"{self.volume}:/data"]
        container = self._shop.start(POSTGRES, server, mounts, *environment, "--shm-size=256m")
        # over TCP: while the image initialises a cluster the server listens on its socket only
        ready = "for i in $(seq 600); do pg_isready -q -h 127.0.0.1 && exit 0; sleep 0.1; done; exit 1"
        self._shop.execute(container, "sh", "-c", ready)
        self._shop.execute(container, *command, "--host=127.0.0.1", "--username=postgres", "postgres")
        self._shop.stop(container)


class SmallFiles:
    """A tree of files of 0.2 to 12 KB."""

    name = "small files"

    def __init__(self, shop: Workshop, files: int, seed: int) -> None:
        self._shop, self._seed = shop, seed
        self.volume = shop.volume("small")
        _generate(shop, self.volume, "small", seed, files)

    def change(self, round_number: int) -> None:
        _generate(self._shop, self.volume, "change-small", self._seed, round_number)


def facts(shop: Workshop, volume: str) -> Facts:
    """Count a volume's files and their bytes."""
    counted = "find /data -type f -printf '%s\\n' | awk '{s += $1; n++} END {printf \"%d %d\", n, s}'"
    files, size = shop.shell(counted, f"{volume}:/data:ro").split()
    return Facts(int(files), int(size))


def warm(shop: Workshop, source: str) -> None:
    """Read a volume or directory once, so that every tool finds it in the page cache."""
    shop.shell("find /d -type f -exec cat {} + >/dev/null", f"{source}:/d:ro")


def fingerprint(shop: Workshop, volume: str) -> Fingerprint:
    """The checksums of a volume's tree."""
    return Fingerprint(tuple(_checksum(shop, volume, flags) for flags in _LIKENESS.values()))


def likeness(shop: Workshop, original: Fingerprint, volume: str) -> str:
    """How like the original the tree in a volume is, as precisely as it can be said."""
    for (words, flags), checksum in zip(_LIKENESS.items(), original.checksums, strict=True):
        if _checksum(shop, volume, flags) == checksum:
            return words
    return "DIFFERS"


def _checksum(shop: Workshop, volume: str, flags: str) -> str:
    # holes count as zeros: not every tool claims to keep them
    script = f"set -f; tar -C /data --numeric-owner --sort=name {flags} -cf - . | sha256sum"
    return shop.shell(script, f"{volume}:/data:ro").split()[0]


def _generate(shop: Workshop, volume: str, *arguments: object) -> None:
    command = ["python3", "/bench/generate.py", *map(str, arguments)]
    run(shop.container(TOOLS, command, [f"{volume}:/data", f"{HERE}:/bench:ro"]))
