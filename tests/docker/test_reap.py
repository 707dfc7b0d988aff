"""Leaked helpers go, living ones stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.engine.client import Engine
from backupd.engine.helper import export
from backupd.engine.image import HelperImage
from backupd.engine.journal import Journal
from backupd.engine.reap import reap
from backupd.errors import EngineUnreachable
from tests.docker.conftest import SHELL_IMAGE, MakeVolume
from tests.docker.tar import INSTANCE, RUN_ID, helpers

pytestmark = pytest.mark.docker

LEAKER = """
import sys
from pathlib import Path
from backupd.engine.client import Engine
from backupd.engine.helper import export
from backupd.engine.image import HelperImage
from backupd.engine.journal import Journal
host, journal, volume, image, instance, run = sys.argv[1:]
open_journal = Journal(Path(journal))
with export(Engine.connect(host or None), volume, HelperImage(image, "gnu", "1"), instance=instance, run=run):
    print("started", flush=True)
    sys.stdin.read()
"""

RUN = f"{RUN_ID}-leak"


@pytest.fixture
def other(engine: Engine, make_volume: MakeVolume, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process with a running helper."""
    host = f"unix://{engine.socket}" if engine.socket else ""
    arguments = [host, str(tmp_path / "journal"), make_volume(), SHELL_IMAGE, INSTANCE, RUN]
    process = subprocess.Popen(
        [sys.executable, "-c", LEAKER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout
    assert process.stdout.readline() == "started\n"
    yield process
    process.communicate(timeout=30)


def test_helpers_of_a_killed_process_are_reaped(
    engine: Engine, journal: Journal, other: subprocess.Popen[str]
) -> None:
    """E16: what a crash leaked is removed at the next start, by instance; others' are not touched."""
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert len(helpers(engine, RUN)) == 1
    assert reap(engine, f"{INSTANCE}-other", journal) == ()
    assert len(reap(engine, INSTANCE, journal)) == 1
    assert helpers(engine, RUN) == []
    assert reap(engine, INSTANCE, journal) == ()


def test_helpers_of_living_processes_stay(
    engine: Engine,
    journal: Journal,
    other: subprocess.Popen[str],
    gnu: HelperImage,
    make_volume: MakeVolume,
) -> None:
    """E16: a backup from the command line beside the starting daemon keeps its helper; so do our own."""
    assert other.poll() is None
    with export(engine, make_volume(), gnu, instance=INSTANCE, run=RUN):
        assert reap(engine, INSTANCE, journal) == ()
        assert len(helpers(engine, RUN)) == 2


def test_helper_that_could_not_be_removed_goes_later(
    engine: Engine,
    journal: Journal,
    gnu: HelperImage,
    make_volume: MakeVolume,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E10, E16: a helper whose removal failed, because the engine was away, is not left until a restart."""

    def refuse(engine: Engine, container: str) -> None:
        raise EngineUnreachable("the engine is away")

    with (
        monkeypatch.context() as away,
        pytest.raises(EngineUnreachable),
        export(engine, make_volume(), gnu, instance=INSTANCE, run=RUN),
    ):
        away.setattr("backupd.engine.container.remove", refuse)
    assert len(helpers(engine, RUN)) == 1
    assert len(reap(engine, INSTANCE, journal)) == 1
    assert helpers(engine, RUN) == []
