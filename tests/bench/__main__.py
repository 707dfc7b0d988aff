"""Compares backupd with other tools in one run: `make bench ARGS="--size 300m --write"`."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.bench import report
from tests.bench.bucket import Server, field_in_s3, serving
from tests.bench.contenders import find_restic
from tests.bench.contest import Result, compete, field
from tests.bench.corpus import Corpus, Mixed, SmallFiles
from tests.bench.goals import goals
from tests.bench.own import Backupd, Pause, pause_of_backup
from tests.bench.workshop import HERE, BenchError, Workshop, say, workshop

ROOT = HERE.parent.parent
PAGE = ROOT / "docs" / "BENCHMARKS.md"

_KEYS = ("one-liner", "zstd", "restic", "borg", "backupd")


def main() -> int:
    """Run the benchmark as the command line says; 1 where a step failed."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cache = Path(os.environ.get("TESTS_CACHE") or ROOT / ".cache").resolve()
    try:
        with workshop(cache / "bench") as shop, ExitStack() as stack:
            server = stack.enter_context(serving(shop, cache)) if arguments.s3 else None
            _bench(shop, arguments, server)
    except BenchError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _bench(shop: Workshop, arguments: argparse.Namespace, server: Server | None) -> None:
    load = os.getloadavg()[0]
    makers = field_in_s3(server, find_restic()) if server else field(arguments.only)
    results: list[Result] = []
    idle: int | None = None
    pause: Pause | None = None
    if arguments.size:
        say(f"making a mixed corpus of {arguments.size / 1e6:.0f} MB")
        mixed = Mixed(shop, arguments.size, arguments.seed)
        results.append(compete(shop, mixed, makers, arguments.repeat))
        if "backupd" in makers and not server:
            pause, idle = _alone(shop, mixed)
    if arguments.small_files:
        say(f"making {arguments.small_files} small files")
        small = SmallFiles(shop, arguments.small_files, arguments.seed)
        results.append(compete(shop, small, makers, arguments.repeat))
    tables = report.grids(results, goals(results, idle, pause, s3=server is not None))
    report.show(tables)
    if arguments.write:
        words = " ".join(word for word in sys.argv[1:] if word != "--write")
        report.write(PAGE, tables, f'make bench ARGS="{words}"' if words else "make bench", load)
        say(f"written to {PAGE.relative_to(ROOT)}")


def _alone(shop: Workshop, corpus: Corpus) -> tuple[Pause, int]:
    """What only backupd is asked."""
    say("backupd: saving a volume that a running container mounts")
    backupd = Backupd(shop, shop.directory("backupd-alone"))
    pause = pause_of_backup(shop, backupd, corpus.volume)
    say("backupd: waiting for its daemon to be idle")
    return pause, backupd.idle_bytes(corpus.volume)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--size", type=_size, default="1g", help="of the mixed corpus, like 300m or 2g (1g); 0: none"
    )
    parser.add_argument(
        "--small-files", type=int, default=20_000, metavar="N", help="of the second corpus (20000); 0: none"
    )
    parser.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="do the backups N times, take medians (1)"
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed, another corpus (1)")
    parser.add_argument(
        "--only", action="append", choices=_KEYS, metavar="TOOL", help=f"one of {', '.join(_KEYS)}"
    )
    parser.add_argument(
        "--s3", action="store_true", help="let restic and backupd compete in front of an S3 server"
    )
    parser.add_argument("--write", action="store_true", help="write docs/BENCHMARKS.md")
    arguments = parser.parse_args()
    if arguments.s3 and (arguments.only or arguments.write):
        parser.error("--s3 is a contest of its own, which is only printed")
    return arguments


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([kmg]?)", text.lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it like 300m or 2g")
    return int(found[1]) * {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}[found[2]]


if __name__ == "__main__":
    sys.exit(main())
