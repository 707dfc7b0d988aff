"""The engine's settings: with the gate, without it, and whatever else is in them untouched."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupd.errors import ConfigError
from backupd.gate.enginefile import KEY, EngineFile
from backupd.gate.installation import weakness

RESCUE = Path(__file__).parents[3] / "deploy" / "gate-rescue.sh"
NAMES = st.text(alphabet="abc-/:", min_size=1, max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8).filter(lambda t: "backupd-gate" not in t),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def written(path: Path, value: Any) -> EngineFile:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return EngineFile(path)


def test_a_file_that_is_not_there_is_made(tmp_path: Path) -> None:
    """Docker has none until somebody wants something of it."""
    path = tmp_path / "docker" / "daemon.json"
    file = EngineFile(path)
    file.add("gate")
    assert json.loads(path.read_text()) == {KEY: ["gate"]}
    file.remove("gate")
    assert json.loads(path.read_text()) == {}


def test_what_was_there_comes_back_byte_for_byte(tmp_path: Path) -> None:
    """Odd white space, order and mode as well."""
    text = '{ "b":1,\n\n"a" : [ "x" ]}'
    path = tmp_path / "daemon.json"
    file = written(path, text)
    path.chmod(0o640)
    file.add("gate")
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(json.loads(path.read_text())) == ["b", "a", KEY]
    assert file.copy.read_text() == text
    file.remove("gate")
    assert path.read_text() == text
    assert path.stat().st_mode & 0o777 == 0o640
    assert [left.name for left in tmp_path.iterdir()] == ["daemon.json"]


def test_what_changed_meanwhile_stays(tmp_path: Path) -> None:
    """The copy is not put over somebody's later work."""
    path = tmp_path / "daemon.json"
    file = written(path, {"a": 1})
    file.add("gate")
    written(path, {"a": 2, KEY: ["gate"]})
    file.remove("gate")
    assert json.loads(path.read_text()) == {"a": 2}
    assert not file.copy.exists()


def test_other_plugins_stay_in_their_order(tmp_path: Path) -> None:
    """The gate comes after those that may refuse at once."""
    file = written(tmp_path / "daemon.json", {KEY: ["first", "second"]})
    file.add("gate")
    file.add("gate")
    assert file.plugins() == ["first", "second", "gate"]
    file.remove("gate")
    assert file.plugins() == ["first", "second"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """Where the settings are kept elsewhere, they change there."""
    real, link = tmp_path / "real.json", tmp_path / "daemon.json"
    written(real, {})
    link.symlink_to(real)
    EngineFile(link).add("gate")
    assert link.is_symlink()
    assert json.loads(real.read_text()) == {KEY: ["gate"]}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"authorization-plugins": "x"}', '{"authorization-plugins": [1]}', "\0"]
)
def test_what_makes_no_sense_is_left_alone(tmp_path: Path, text: str) -> None:
    """A person has to look at it."""
    path = tmp_path / "daemon.json"
    file = written(path, text)
    for change in (file.add, file.remove):
        with pytest.raises(ConfigError, match=r"daemon\.json"):
            change("gate")
    assert path.read_text() == text


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    others=st.dictionaries(NAMES, VALUES, max_size=3),
    before=st.lists(NAMES, max_size=2),
    after=st.lists(NAMES, max_size=2),
    indent=st.sampled_from([None, 0, 2, "\t"]),
)
def test_a_shell_takes_the_gate_out_of_any_settings(
    tmp_path: Path, others: dict[str, Any], before: list[str], after: list[str], indent: int | str | None
) -> None:
    """However they are laid out: what is left is the same JSON without the gate."""
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps({**others, KEY: [*before, "backupd-gate", *after], "z": 1}, indent=indent))
    environment = {"PATH": "/nonexistent"}
    subprocess.run(
        ["/bin/sh", RESCUE, path, tmp_path / "none"], env=environment, check=True, capture_output=True
    )
    assert json.loads(path.read_text()) == {**others, KEY: [*before, *after], "z": 1}


@pytest.mark.parametrize(
    ("version", "weak"),
    [
        ("20.10.24+dfsg1", True),
        ("25.0.15", True),
        ("25.0.16", False),
        ("26.1.5", True),
        ("29.3.0", True),
        ("29.3.1", False),
        ("30.0.0-rc.1", False),
        ("dev", False),
    ],
)
def test_engines_that_hide_bodies_are_known(version: str, weak: bool) -> None:
    """Mended in 25.0.16 and in 29.3.1."""
    assert bool(weakness(version)) == weak
