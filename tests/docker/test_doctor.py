"""What `backupd doctor` says of set-ups that are well, and of others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backupd.engine.client import Engine
from tests.docker.conftest import MakeVolume
from tests.docker.program import Program

pytestmark = pytest.mark.docker


@pytest.fixture
def program(engine: Engine, tmp_path: Path) -> Iterator[Program]:
    """A program with a state directory, and no repository yet."""
    made = Program(engine, tmp_path)
    (tmp_path / "state").mkdir()
    yield made
    assert made.helpers() == []


def said(findings: list[dict[str, Any]], subject: str) -> list[tuple[str, str]]:
    return [(each["verdict"], each["text"]) for each in findings if each["subject"] == subject]


def test_a_set_up_that_is_well_has_nothing_bad(program: Program, make_volume: MakeVolume) -> None:
    """Everything is looked at, down to an object that is stored and read, of which nothing stays."""
    program.run("init")
    volume = make_volume(program.name, {"backupd.enable": "true"})
    findings = json.loads(program.run("doctor", "--json", code=None).stdout)
    assert {each["subject"] for each in findings} >= {
        *("schedules", "state", "engine", "clock", "helper", "volumes", "repository", "storage")
    }
    # of other tests' volumes anything may be said
    assert [each for each in findings if each["verdict"] == "bad" and each["subject"] != "volumes"] == []
    assert [text for verdict, text in said(findings, "volumes") if volume in text] == []
    assert ("good", "1 of ") in [(verdict, text[:5]) for verdict, text in said(findings, "volumes")]
    assert [path for path in program.directory.glob("storage/probe/**/*") if path.is_file()] == []


def test_each_fault_is_named_with_the_way_out(program: Program, make_volume: MakeVolume) -> None:
    """No repository and a label that makes no sense: both are told, and exit code 1."""
    volume = make_volume(program.name, {"backupd.enable": "true", "backupd.schedule": "31 2 30 2 *"})
    done = program.run("doctor", code=1)
    told = done.stdout.decode()
    assert f"✗ volumes     {volume}: " in told
    assert "31 2 30 2 *" in told
    assert "✗ repository" in told
    assert "hint: is its disk mounted? to make a new repository there: backupd init" in told


def test_without_an_engine_the_rest_is_still_looked_at(engine: Engine, tmp_path: Path) -> None:
    """Whoever has no engine wants to know whether the backups can be read."""
    (tmp_path / "state").mkdir()
    Program(engine, tmp_path).run("init")
    lonely = Program(engine, tmp_path, socket=tmp_path / "nobody.sock")
    findings = json.loads(lonely.run("doctor", "--json", code=1).stdout)
    assert [verdict for verdict, _ in said(findings, "engine")] == ["bad"]
    assert [verdict for verdict, _ in said(findings, "repository")] == ["good"]
