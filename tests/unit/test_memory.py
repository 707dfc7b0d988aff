"""Memory does not grow with the volume."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("operation", "limit"), [("verify", 60), ("cold-cache", 30), ("snapshots-cached", 30)]
)
def test_memory_does_not_grow_with_the_repository(operation: str, limit: int) -> None:
    """I13: 100,000 chunks of 1,000 snapshots."""
    command = [sys.executable, "-m", "tests.unit.scale_probe", operation, "1000"]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1]
    assert int(told.split()[0]) < limit


def test_memory_does_not_grow_with_damage() -> None:
    """Every chunk is gone: findings pass one by one."""
    command = [sys.executable, "-m", "tests.unit.scale_probe", "damaged", "100"]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1]
    assert int(told.split()[0]) < 40


def _peak_mb(directory: Path, count: int, size: int) -> int:
    command = [sys.executable, "-m", "tests.unit.memory_probe", str(directory), str(count), str(size)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
