"""The gate comes and goes on engines that run, and an engine is never left without a way out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.gate.gating import PLUGIN, GateProcess, gate_command, gated, rescue
from tests.docker.own_engine import OwnEngine

pytestmark = pytest.mark.docker

SETTINGS = '{"debug": false,\n      "labels": ["place=here"]}'


@pytest.fixture
def engine(own_engine: OwnEngine) -> Iterator[OwnEngine]:
    """An engine that runs, with settings of its own and without the gate."""
    own_engine.daemon_json.write_text(SETTINGS, encoding="utf-8")
    own_engine.reload()
    yield own_engine
    if own_engine.ended() is not None:
        own_engine.kill()
        own_engine.start()


@pytest.fixture
def gate(engine: OwnEngine, tmp_path: Path) -> Iterator[GateProcess]:
    """A gate that answers and is not installed."""
    process = GateProcess(engine, tmp_path)
    try:
        process.start()
        yield process
    finally:
        process.kill()


def standing(engine: OwnEngine, code: int) -> dict[str, object]:
    found: dict[str, object] = json.loads(gate_command(engine, "status", "--json", code=code).stdout)
    return found


def test_install_and_uninstall_leave_the_settings_as_they_were(engine: OwnEngine, gate: GateProcess) -> None:
    """Both take effect on an engine that runs; the file is the old one again, byte for byte."""
    assert not standing(engine, 1)["active"]
    gate_command(engine, "install")
    settings = json.loads(engine.daemon_json.read_text())
    assert settings == {**json.loads(SETTINGS), "authorization-plugins": [PLUGIN]}
    found = standing(engine, 0)
    assert found["configured"]
    assert found["active"]
    assert found["version"]
    assert "CVE-2026-34040" in str(found["engine_weakness"])
    gate_command(engine, "install")
    assert json.loads(engine.daemon_json.read_text()) == settings

    gate_command(engine, "uninstall")
    assert engine.daemon_json.read_text() == SETTINGS
    assert not standing(engine, 1)["active"]


def test_an_engine_starts_again_with_the_gate(engine: OwnEngine, gate: GateProcess) -> None:
    """The gate answers while the engine starts; it does not wait for the engine."""
    gate_command(engine, "install")
    try:
        engine.restart()
        assert standing(engine, 0)["active"]
    finally:
        gate_command(engine, "uninstall")


def test_nothing_changes_where_no_gate_answers(engine: OwnEngine) -> None:
    """An engine that was told to use it would end itself."""
    said = gate_command(engine, "install", code=1).stderr
    assert "the gate is not there" in said
    assert engine.daemon_json.read_text() == SETTINGS
    assert engine.answers()


def test_settings_that_are_no_json_are_refused(engine: OwnEngine, gate: GateProcess) -> None:
    """They stay as they are, for a person to correct."""
    engine.daemon_json.write_text('{"debug": tru', encoding="utf-8")
    assert "is no JSON" in gate_command(engine, "install", code=2).stderr
    assert engine.daemon_json.read_text() == '{"debug": tru'
    engine.daemon_json.write_text(SETTINGS, encoding="utf-8")


def test_a_shell_is_enough_when_the_gate_has_died(engine: OwnEngine, tmp_path: Path) -> None:
    """With no gate to ask, the engine answers nobody; the rescue needs no program, and its settings stay."""
    with gated(engine, tmp_path) as gate:
        gate.kill()
        assert "the gate is out of" in rescue(engine)
        engine.wait_until(lambda: engine.docker("ps", code=None).returncode == 0)
        assert json.loads(engine.daemon_json.read_text()) == {
            **json.loads(SETTINGS),
            "authorization-plugins": [],
        }
        assert "the gate is not in" in rescue(engine)


def test_a_shell_is_enough_when_the_engine_does_not_start(engine: OwnEngine, tmp_path: Path) -> None:
    """A dead gate keeps an engine from starting; after the rescue it starts."""
    with gated(engine, tmp_path) as gate:
        engine.stop()
        gate.kill()
        rescue(engine)
        engine.start()
        assert engine.docker("ps").returncode == 0
