"""A repository as it is kept: forgotten, pruned, checked, damaged and mended, on a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.engine.client import Engine
from tests.docker.conftest import MakeVolume, RunInVolume
from tests.docker.program import Program

pytestmark = pytest.mark.docker

FILL = "mkdir -p d; head -c 6000000 /dev/urandom >d/noise; echo welcome >motd"
SUMS = "find . -type f -exec sha256sum {} + | sort"


@pytest.fixture
def program(engine: Engine, tmp_path: Path) -> Iterator[Program]:
    """A program with a repository in which garbage does not have to wait."""
    made = Program(engine, tmp_path)
    made.add_settings('[prune]\ngrace = "0s"\n')
    made.run("init")
    yield made
    assert made.helpers() == []


@pytest.fixture
def volume(program: Program, make_volume: MakeVolume, run_in_volume: RunInVolume) -> str:
    """A volume that keeps its last two snapshots."""
    name = make_volume(program.name, {"backupd.enable": "true", "backupd.retention": "last=2"})
    run_in_volume(name, FILL)
    return name


def packs(program: Program) -> dict[Path, int]:
    """The packs on the disk, and their sizes."""
    return {path: path.stat().st_size for path in (program.directory / "storage").glob("packs/*/*/*/*.pack")}


def test_a_prune_frees_what_only_forgotten_snapshots_named(
    program: Program, volume: str, run_in_volume: RunInVolume
) -> None:
    """R9, R11: the plan says as many bytes as are free afterwards; what is kept restores."""
    program.run("backup", volume)
    first = packs(program)
    for _ in range(2):
        run_in_volume(volume, FILL)
        program.run("backup", volume)
    before, sums = packs(program), run_in_volume(volume, SUMS)
    planned = program.json("prune", "--dry-run")
    assert planned["condemn"]["bytes"] > 1_000_000
    assert packs(program) == before
    pruned = program.json("prune", "--yes")
    after = packs(program)
    assert pruned["deleted"] == planned["condemn"]
    assert sum(before.values()) - sum(after.values()) == pruned["deleted"]["bytes"]
    assert before.keys() - after.keys() <= first.keys()
    program.run("verify", "--read-data")
    run_in_volume(volume, "rm -r d motd")
    program.run("restore", volume, "--yes")
    assert run_in_volume(volume, SUMS) == sums


def test_damage_is_named_and_mended_by_the_next_backup(
    program: Program, volume: str, run_in_volume: RunInVolume
) -> None:
    """R4: a bit in a pack; verify names the file, a backup stores it again, the old snapshot is whole."""
    program.run("backup", volume)
    (old,) = program.snapshots(volume)
    hit = max(packs(program), key=lambda path: path.stat().st_size)
    content = bytearray(hit.read_bytes())
    content[len(content) // 2] ^= 1
    hit.write_bytes(content)
    told = program.run("verify", "--read-data", code=4)
    assert b"./d/noise" in told.stdout
    assert old.encode() in told.stdout
    assert b"1 damaged pack is marked" in told.stderr
    program.run("backup", volume)
    program.run("verify", "--read-data")
    sums = run_in_volume(volume, SUMS)
    run_in_volume(volume, "rm -r d motd")
    program.run("restore", volume, "--snapshot", old, "--yes")
    assert run_in_volume(volume, SUMS) == sums
    program.run("prune", "--yes")
    program.run("verify", "--read-data")
    assert hit.read_bytes() == content, "what is damaged is not replaced"
