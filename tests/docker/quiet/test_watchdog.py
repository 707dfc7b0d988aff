"""The application goes on in time, whatever the backup does."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.engine.helper import export
from backupd.engine.image import HelperImage
from backupd.engine.journal import Journal
from backupd.errors import QuiesceFailed
from backupd.treatment import Hook, Treatment
from tests.docker.conftest import MakeVolume, RunInVolume
from tests.docker.quiet.calm import quiet, wait_for
from tests.docker.quiet.conftest import Stage
from tests.docker.quiet.test_hooks import DURATION, hangs

pytestmark = pytest.mark.docker

POST = (Hook(("touch", "/tmp/post")),)


@pytest.mark.parametrize("mode", ["pause", "stop"])
def test_application_goes_on_though_the_reader_hangs(stage: Stage, journal: Journal, mode: str) -> None:
    """E12: from a thread of its own; who reads is told at its next look, and what it has read is void."""
    container = stage.start(stop_timeout=1)
    before = stage.inspect(container)["StartedAt"]
    treatment = Treatment(mode, post=POST)  # type: ignore[arg-type]
    with quiet(stage.engine, journal, [container], treatment, limit_seconds=12) as still:
        wait_for(lambda: journal.changes == ())
        assert stage.status(container) == "running"
        with pytest.raises(QuiesceFailed, match="went on after 12 s"):
            still.check()
    assert still.end().expired
    assert stage.has(container, "/tmp/post")
    assert (stage.inspect(container)["StartedAt"] != before) == (mode == "stop")


def test_limit_holds_for_hooks_too(stage: Stage, journal: Journal) -> None:
    """E8, E12: a hook that may take longer than all together is killed when the time is over."""
    container = stage.start()
    hanging = Treatment("pause", (Hook(("sleep", DURATION), timeout_seconds=600),), POST)
    with (
        pytest.raises(QuiesceFailed, match="went on after 3 s"),
        quiet(stage.engine, journal, [container], hanging, limit_seconds=3),
    ):
        pytest.fail("the hook hangs")
    assert not hangs(stage, container)
    assert stage.has(container, "/tmp/post")
    assert journal.changes == ()


def test_tar_stream_breaks_off_when_the_time_is_over(
    stage: Stage,
    journal: Journal,
    gnu: HelperImage,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    fifo_dir: Path | None,
) -> None:
    """E12: who reads in the middle of a volume finds out; the helper goes."""
    volume = make_volume()
    run_in_volume(volume, "head -c 30000000 /dev/urandom >noise")
    container = stage.start(volume=volume)
    still = quiet(stage.engine, journal, [container], limit_seconds=12)
    with (
        export(
            stage.engine,
            volume,
            gnu,
            instance="backupd-test",
            run=stage.project,
            fifo_dir=fifo_dir,
            check=still.check,
        ) as output,
        still,
    ):
        output.begin()
        wait_for(lambda: journal.changes == ())
        with pytest.raises(QuiesceFailed, match="went on after 12 s"):
            output.readinto(memoryview(bytearray(1 << 20)))
    assert stage.status(container) == "running"
