"""`python -m tests.soak [--minutes N] [--seed S]`: kill, judge, report; 1 where something is not true."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.docker.own_engine import why_not
from tests.soak.engine import MortalEngine
from tests.soak.judgement import Judgement
from tests.soak.kills import Kills
from tests.soak.service import Service
from tests.soak.stack import IMAGES, Stack


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    given = parser.parse_args()
    reason = why_not("system")
    if reason:
        sys.stderr.write(f"[soak] cannot run here: {reason}\n")
        return 3
    sys.stderr.write(f"[soak] {given.minutes:g} minutes of kills, seed {given.seed}\n")
    directory = Path(tempfile.mkdtemp(prefix="backupd-soak-state-"))
    engine = MortalEngine()
    service = Service(engine, directory)
    try:
        faults = _soak(engine, service, given.minutes * 60, given.seed)
    finally:
        service.stop()
        engine.remove()
    if faults:
        sys.stderr.write(f"[soak] what is left to look at: {service.log}\n")
        return 1
    shutil.rmtree(directory)
    return 0


def _soak(engine: MortalEngine, service: Service, seconds: float, seed: int) -> list[str]:
    engine.start()
    engine.load(*IMAGES)
    stack = Stack(engine)
    stack.start()
    done = service.run("init")
    assert done.returncode == 0, done.stderr.decode()
    service.start()
    kills, began = Kills(engine, service, seed), time.monotonic()
    with stack.load():
        kills.go_on(seconds)
    judgement = Judgement(engine, service, stack)
    judgement.pass_()
    _report(kills, service, judgement, seed, time.monotonic() - began)
    return judgement.faults


def _report(kills: Kills, service: Service, judgement: Judgement, seed: int, seconds: float) -> None:
    ends = Counter(f"{line['event']}" for line in service.events() if line["event"].startswith("backup "))
    write = sys.stdout.write
    write(f"seed {seed}, {seconds / 60:.1f} minutes\n")
    for name, count in kills.done.most_common():
        write(f"  {count:4} {name}\n")
    write(f"the daemon was started {service.starts} times\n")
    for name, count in ends.most_common():
        write(f"  {count:4} {name}\n")
    restored = ", ".join(f"{count} of {volume}" for volume, count in sorted(judgement.restored.items()))
    write(f"restored and checked: {restored or 'nothing'}; windows compared: {judgement.windows}\n")
    write("all is well\n" if not judgement.faults else "\n".join(judgement.faults) + "\n")


if __name__ == "__main__":
    sys.exit(main())
