"""Several processes on one directory, with nothing between them but files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from backupd.repository import Repository
from backupd.storage.local import LocalStorage
from tests.streams import load
from tests.unit.prune_probe import stream

SECONDS = "6"


def test_two_writers_and_two_collectors_at_once_lose_nothing(tmp_path: Path) -> None:
    """R11: without any grace period, while snapshots come and go, each one that is there restores."""
    directory = tmp_path / "repository"
    with LocalStorage.create(directory) as storage:
        Repository.init(storage)
    programs = [
        _start("write", directory, "one"),
        _start("write", directory, "two"),
        _start("prune", directory, str(tmp_path / "three")),
        _start("prune", directory, str(tmp_path / "four")),
    ]
    told = [program.communicate(timeout=120) for program in programs]
    for program, (_, errors) in zip(programs, told, strict=True):
        assert program.returncode == 0, errors.decode()
    assert all(b"deleted_packs" in told[number][0] for number in (2, 3))
    with LocalStorage(directory) as storage:
        repository = Repository.open(storage)
        found = repository.snapshots()
        assert {manifest.host for manifest in found} == {"one", "two"}
        for manifest in found:
            assert load(repository, manifest) == stream(int(manifest.volume.name[1:]))
            for each in repository.reader(manifest).slices():
                assert storage.exists(each.pack), each


def _start(role: str, directory: Path, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.unit.prune_probe", role, str(directory), name, SECONDS]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
