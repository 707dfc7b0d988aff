"""Wheels: with the extension where there is a compiler; where there is none without it, and they say so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.unit.test_walk import BUILDABLE

ROOT = Path(__file__).parents[2]
EXTENSION = "backupd/repository/stream/_walk.abi3.so"


def build(folder: Path, **environment: str) -> tuple[Path, str]:
    """The wheel that a copy of this project gives, and what was said while it was built."""
    source = folder / "source"
    shutil.copytree(ROOT / "backupd", source / "backupd", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    done = subprocess.run(
        command, cwd=source, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    (wheel,) = (folder / "dist").iterdir()
    return wheel, done.stdout + done.stderr


@pytest.mark.skipif(not BUILDABLE, reason="no C compiler, or no Python.h")
def test_a_wheel_has_the_extension_for_every_later_python(tmp_path: Path) -> None:
    """One wheel for a platform, whatever its Python, and its extension is one that can be loaded."""
    wheel, _ = build(tmp_path)
    assert "-cp311-abi3-" in wheel.name
    with zipfile.ZipFile(wheel) as files:
        files.extractall(tmp_path / "site")
    command = [sys.executable, "-c", "from backupd.repository.stream import _walk; print(_walk.__file__)"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "site" / EXTENSION)


@pytest.mark.parametrize("compiler", ["/nonexistent/cc", "false"])
def test_a_wheel_without_the_extension_can_be_had_without_a_compiler(tmp_path: Path, compiler: str) -> None:
    """No compiler, or one that fails: one line says so, and nothing of an earlier build is taken along."""
    wheel, said = build(tmp_path, CC=compiler)
    assert "-py3-none-any" in wheel.name
    assert said.count("without its C extension, and slower: ") == 1
    assert compiler in said
    with zipfile.ZipFile(wheel) as files:
        assert not [name for name in files.namelist() if name.endswith((".so", ".c"))]
