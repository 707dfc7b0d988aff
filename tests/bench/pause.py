"""How long a PostgreSQL under load stands still for its backup: `python -m tests.bench.pause`.

Against what reading costs at least: bare tar of the same volume in a container of the same image, in the same
round, the database standing still as well. What tar writes goes through cat, because GNU tar that finds
/dev/null to be its output reads no file at all; that is shown too. How long the database stood still is what
the engine's own events say.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.own import Backupd
from tests.bench.workshop import Workshop, run, say, workshop

GOAL = 1.3
DATABASE = "postgres:16-alpine"
PLACE = "/var/lib/postgresql/data"
MB_PER_SCALE = 15
READY_SECONDS = 120
LOAD_SECONDS = 36_000

# Seconds are those of the kernel's clock, to a hundredth: starting the container is not counted.
_BARE = """
read begun _ </proc/uptime
%s
read ended _ </proc/uptime
echo "$begun $ended"
"""
_TAR = "tar -c -C /volume . | cat >/dev/null"
_TO_NOWHERE = "tar -c -C /volume -f /dev/null ."


@dataclass(frozen=True)
class Round:
    """Seconds of one round, and the size of what was read."""

    what: str
    mb: float
    paused: float
    bare: float

    @property
    def ratio(self) -> float:
        """How many times as long as bare tar."""
        return self.paused / self.bare


def main(mb: int, rounds: int) -> None:
    """Print a line for each round, and the medians against the goal."""
    with (
        tempfile.TemporaryDirectory(prefix="backupd-bench-") as directory,
        workshop(Path(directory)) as shop,
        _loaded_database(shop, mb) as (container, volume),
    ):
        backupd = Backupd(shop, shop.directory("backupd"))
        backupd.prepare()
        image = _helper_image()
        done = [_round(shop, backupd, container, volume, image, "first")]
        done += [_round(shop, backupd, container, volume, image, "again") for _ in range(rounds)]
        nowhere = _standing_still(shop, container, volume, image, _TO_NOWHERE)
    print(f"{'':8}{'MB':>8}{'paused s':>10}{'bare s':>10}{'ratio':>8}")
    for each in done:
        print(f"{each.what:8}{each.mb:8.0f}{each.paused:10.2f}{each.bare:10.2f}{each.ratio:8.2f}")
    print(f"bare tar that knows its output to be /dev/null: {nowhere:.2f} s")
    print(f"first {done[0].ratio:.2f}, again {median(each.ratio for each in done[1:]):.2f} (goal {GOAL})")


@contextmanager
def _loaded_database(shop: Workshop, mb: int) -> Iterator[tuple[str, str]]:
    """A database of about that size that clients write to: its container and its volume."""
    volume = shop.volume("database")
    container = shop.start(
        DATABASE,
        ["postgres"],
        [f"{volume}:{PLACE}"],
        "--env=POSTGRES_PASSWORD=bench",
        "--env=POSTGRES_DB=bench",
    )
    say("filling a database")
    _wait_until_ready(shop, container)
    scale = str(max(mb // MB_PER_SCALE, 1))
    shop.execute(container, "pgbench", "-U", "postgres", "-i", "-q", "-s", scale, "bench")
    load = ("pgbench", "-U", "postgres", "-c", "4", "-T", str(LOAD_SECONDS), "bench")
    run(["docker", "exec", "--detach", container, *load])
    try:
        yield container, volume
    finally:
        shop.stop(container)


def _wait_until_ready(shop: Workshop, container: str) -> None:
    ready = ("pg_isready", "-h", "127.0.0.1", "-U", "postgres", "-d", "bench")
    deadline = time.monotonic() + READY_SECONDS
    while subprocess.run(["docker", "exec", container, *ready], capture_output=True).returncode:
        if time.monotonic() > deadline:
            raise TimeoutError("the database did not start")
        time.sleep(0.5)


def _round(shop: Workshop, backupd: Backupd, container: str, volume: str, image: str, what: str) -> Round:
    """Bare tar and a snapshot, one after the other, the page cache warm for both."""
    say(f"{what} snapshot")
    bare = _standing_still(shop, container, volume, image, _TAR)
    begun = time.time()
    backupd.backup(volume)
    paused = _paused_seconds(container, begun)
    return Round(what, backupd.newest_bytes(volume) / 1e6, paused, bare)


def _standing_still(shop: Workshop, container: str, volume: str, image: str, command: str) -> float:
    """Seconds that a command took in a container of the image, the database paused."""
    run(["docker", "pause", container])
    try:
        argv = shop.container(
            image,
            ["-c", _BARE % command],
            [f"{volume}:/volume:ro"],
            None,
            "--entrypoint=sh",
            "--log-driver=none",
        )
        begun, ended = (float(word) for word in run(argv).split())
    finally:
        run(["docker", "unpause", container])
    return ended - begun


def _paused_seconds(container: str, since: float) -> float:
    """What the engine says of the last time that the container was paused."""
    words = ["docker", "events", f"--since={since:.9f}", f"--until={time.time():.9f}"]
    words += [f"--filter=container={container}", "--filter=event=pause", "--filter=event=unpause"]
    events = [json.loads(line) for line in run([*words, "--format={{json .}}"]).splitlines()]
    at = {event["Action"]: event["timeNano"] for event in events}
    return float(at["unpause"] - at["pause"]) / 1e9


def _helper_image() -> str:
    """The image that backupd's helpers are made of here."""
    listed = run(["docker", "image", "ls", "--format={{.Repository}}:{{.Tag}}", "backupd-helper"])
    return listed.splitlines()[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=int, default=1000, help="how large the database is, about")
    parser.add_argument("--rounds", type=int, default=3, help="how often it is saved again")
    arguments = parser.parse_args()
    main(arguments.mb, arguments.rounds)
