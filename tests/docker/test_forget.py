"""Retention by hand and after a backup, on a real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backupd.engine.client import Engine
from tests.docker.conftest import MakeVolume, RunInVolume
from tests.docker.program import Program

pytestmark = pytest.mark.docker

FILL = "mkdir d; head -c 2000000 /dev/urandom > d/noise; echo welcome > motd"


@pytest.fixture
def program(engine: Engine, tmp_path: Path) -> Iterator[Program]:
    """A program with a repository."""
    made = Program(engine, tmp_path)
    made.run("init")
    yield made
    assert made.helpers() == []


@pytest.fixture
def volume(program: Program, make_volume: MakeVolume, run_in_volume: RunInVolume) -> str:
    """A volume that keeps its last snapshot only."""
    name = make_volume(program.name, {"backupd.enable": "true", "backupd.retention": "last=1"})
    run_in_volume(name, FILL)
    return name


def logged(program: Program, *words: str) -> list[dict[str, Any]]:
    """The lines that a command logs."""
    done = program.run(*words)
    return [json.loads(text) for text in done.stderr.splitlines() if text.startswith(b"{")]


def test_backup_by_hand_applies_the_volumes_retention(program: Program, volume: str) -> None:
    """The second snapshot makes the first one go; the closing line comes last."""
    first = logged(program, "backup", volume)
    second = logged(program, "backup", volume)
    assert [line["event"] for line in second] == ["retention applied", "backup finished"]
    assert second[0]["snapshots"] == [first[-1]["snapshot"]]
    assert program.snapshots(volume) == [second[-1]["snapshot"]]


def test_a_collapsed_volume_keeps_everything_until_that_is_accepted(
    program: Program, volume: str, run_in_volume: RunInVolume
) -> None:
    """I11: stored, flagged, warned about; frozen; accepted; and the next backup finds nothing odd."""
    [*_, full] = logged(program, "backup", volume)
    run_in_volume(volume, "rm -r d motd")
    warned, frozen, empty = logged(program, "backup", volume)
    assert (warned["event"], warned["level"]) == ("volume collapsed", "warning")
    assert (frozen["event"], frozen["level"]) == ("retention is frozen", "warning")
    assert f"backupd forget {volume} --accept-collapse" in warned["hint"]
    assert full["snapshot"] in empty["warnings"][0]
    [*_, again] = logged(program, "backup", volume)
    assert len(program.snapshots(volume)) == 3
    assert program.run("snapshots", volume).stdout.count(b"COLLAPSED") == 2
    program.run("forget", volume, "--yes")
    assert len(program.snapshots(volume)) == 3
    program.run("restore", volume, "--snapshot", full["snapshot"])
    assert run_in_volume(volume, "cat motd; rm -r d motd") == "welcome\n"
    program.run("forget", volume, "--accept-collapse")
    [applied, last] = logged(program, "backup", volume)
    assert applied["forgotten"] == 3
    assert program.snapshots(volume) == [last["snapshot"]]
    assert again["snapshot"] in applied["snapshots"]
    assert last["warnings"] == []


def test_a_volume_that_is_gone_keeps_its_snapshots_unless_it_is_named(
    engine: Engine, program: Program, volume: str, make_volume: MakeVolume
) -> None:
    """They may be all that is left of it. So it is with one that is no longer protected."""
    gone, bare = make_volume(program.name), make_volume(program.name)
    for name in (gone, bare):
        for _ in range(2):
            program.run("backup", name)
    program.run("backup", volume)
    engine.api.remove_volume(gone)
    plans = {each["volume"]: each for each in program.json("forget", "--yes")}
    assert "may be all that is left" in plans[gone]["untouched"]
    assert "not protected" in plans[bare]["untouched"]
    assert plans[volume]["untouched"] is None
    assert len(program.snapshots(gone)) == len(program.snapshots(bare)) == 2
    assert b"--keep" in program.run("forget", gone, "--yes", code=2).stderr
    program.run("forget", gone, bare, "--keep", "last=1", "--yes")
    assert len(program.snapshots(gone)) == len(program.snapshots(bare)) == 1


def test_a_retention_that_fails_leaves_the_backup_a_success(
    program: Program, volume: str, tmp_path: Path
) -> None:
    """A warning, no more."""
    program.run("backup", volume)
    folder = tmp_path / "storage" / "snapshots" / "test" / volume
    (folder / "20200101T000000Z-0000.json").write_text("{")
    warned, closing = logged(program, "backup", volume)
    assert (warned["event"], warned["level"]) == ("retention failed", "warning")
    assert "20200101T000000Z-0000.json" in warned["error"]
    assert closing["outcome"] == "ok"
    assert len(list(folder.glob("*.json"))) == 3
