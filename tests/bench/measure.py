"""What a command costs: seconds, CPU of command and machine, memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.bench.workshop import BenchError


@dataclass(frozen=True)
class Usage:
    """One command: wall seconds as a user waits, busy CPU seconds of the whole machine meanwhile, and where
    it can be had the wall and CPU seconds of the tool alone and the memory of its largest process.
    """

    wall: float
    machine_cpu: float
    tool_wall: float | None = None
    tool_cpu: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Step:
    """One step of one tool; `stored` is the size of the repository afterwards, `added` what it grew by,
    `requests` how many its server answered meanwhile.
    """

    usage: Usage
    stored: int | None = None
    added: int | None = None
    requests: int | None = None


def in_container(argv: Sequence[str]) -> Usage:
    """Run a `docker run` command line whose command is wrapped in inside.py."""
    usage, _, said = _timed(argv, None)
    inside = json.loads(said.rstrip().rsplit("\n", 1)[-1])
    return Usage(
        usage.wall, usage.machine_cpu, inside["seconds"], inside["cpu_seconds"], int(inside["peak_bytes"])
    )


def opaque(argv: Sequence[str]) -> Usage:
    """Run a command line of which only the machine's view is known."""
    usage, _, _ = _timed(argv, None)
    return Usage(usage.wall, usage.machine_cpu)


def on_host(argv: Sequence[str], env: Mapping[str, str]) -> tuple[Usage, str]:
    """Run a command of this machine; what it cost and what it printed."""
    usage, printed, _ = _timed(argv, env)
    return usage, printed


def median(steps: Sequence[Step]) -> Step:
    """The median of each figure."""
    usages = [step.usage for step in steps]

    def middle(values: Sequence[float | int | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    def whole(values: Sequence[int | None]) -> int | None:
        value = middle(values)
        return None if value is None else int(value)

    return Step(
        Usage(
            statistics.median(usage.wall for usage in usages),
            statistics.median(usage.machine_cpu for usage in usages),
            middle([usage.tool_wall for usage in usages]),
            middle([usage.tool_cpu for usage in usages]),
            whole([usage.peak_bytes for usage in usages]),
        ),
        whole([step.stored for step in steps]),
        whole([step.added for step in steps]),
        whole([step.requests for step in steps]),
    )


def resident_bytes(pid: int) -> int:
    """The most memory that a living process has had resident so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"process {pid} is gone")


def _timed(argv: Sequence[str], env: Mapping[str, str] | None) -> tuple[Usage, str, str]:
    # what an earlier step left to be written must not slow this one down
    os.sync()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        busy, began = _busy_seconds(), time.monotonic()
        process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        wall, machine = time.monotonic() - began, _busy_seconds() - busy
        printed, said = (_text(file) for file in (out, err))
    if process.returncode:
        raise BenchError(f"{' '.join(argv)}: exit {process.returncode}: {(said or printed)[-2000:]}")
    return Usage(wall, machine, wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024), printed, said


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _busy_seconds() -> float:
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
