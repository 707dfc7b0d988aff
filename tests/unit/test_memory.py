"""Memory does not grow with the volume."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("count", "size"), [(300_000, 40), (1200, 1_000_000)], ids=["files", "bytes"])
def test_memory_does_not_grow_with_the_volume(tmp_path: Path, count: int, size: int) -> None:
    """I13: ten times the files, or the bytes, take hardly more memory, and less than 200 MB."""
    few, many = _peak_mb(tmp_path / "few", count // 10, size), _peak_mb(tmp_path / "many", count, size)
    assert many < few + 50
    assert many < 200


def test_four_volumes_read_together_take_bounded_memory(tmp_path: Path) -> None:
    """I13: the buffers are divided among those who read at once."""
    command = [sys.executable, "-m", "tests.unit.window_memory_probe", str(tmp_path), "4", "204800000"]
    assert int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) < 200


@pytest.mark.parametrize(
    ("operation", "snapshots", "limit_mb"),
    [("verify", 3000, 60), ("cold-cache", 3000, 30), ("snapshots-cached", 3000, 30), ("damaged", 100, 40)],
)
def test_memory_does_not_grow_with_the_repository(operation: str, snapshots: int, limit_mb: int) -> None:
    """I13: 300,000 chunks of 3,000 snapshots; or a repository in which every chunk is gone."""
    command = [sys.executable, "-m", "tests.unit.scale_probe", operation, str(snapshots)]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1]
    assert int(told.split()[0]) < limit_mb


def _peak_mb(directory: Path, count: int, size: int) -> int:
    command = [sys.executable, "-m", "tests.unit.memory_probe", str(directory), str(count), str(size)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


@pytest.mark.parametrize(("lists", "length"), [(2000, 100), (50, 4000)], ids=["many lists", "long lists"])
def test_planning_a_prune_takes_bounded_memory(lists: int, length: int) -> None:
    """I13: what is read ahead, and some 40 bytes for each chunk, however often it is named."""
    command = [sys.executable, "-m", "tests.unit.marks_probe", "200000", str(lists), str(length)]
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert told["megabytes"] < 80
