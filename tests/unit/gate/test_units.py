"""The units that ship: systemd accepts them, and the engine never waits for what waits for it."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from backupd.gate.__main__ import SOCKET

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read(UNITS / name)
    return parser


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """No unknown key, no value that makes no sense."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze here")
    for name in ("backupd-gate.socket", "backupd-gate.service"):
        text = (UNITS / name).read_text().replace("/usr/local/bin/backupd-gate", "/bin/true")
        (tmp_path / name).write_text(text)
    for name in ("backupd-gate.socket", "backupd-gate.service"):
        done = subprocess.run(["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_both_come_before_the_engine_and_wait_for_nothing_of_it() -> None:
    """An engine that has the gate in its settings does not start before the gate answers."""
    for name in ("backupd-gate.socket", "backupd-gate.service"):
        section = unit(name)["Unit"]
        assert section["Before"] == "docker.service"
        assert not {"After", "Wants", "BindsTo", "PartOf"} & set(section)


def test_systemd_listens_where_the_engine_looks() -> None:
    """The name of the socket is the name of the plugin; only root may speak to it."""
    section = unit("backupd-gate.socket")["Socket"]
    assert section["ListenStream"] == str(SOCKET)
    assert section["SocketMode"] == "0600"
