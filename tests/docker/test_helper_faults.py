"""What goes wrong with helpers is told, and never looks like the end of a stream."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from docker.errors import APIError

from backupd.engine.client import Engine
from backupd.engine.helper import TarInput, export, extract
from backupd.engine.image import HelperImage
from backupd.engine.limits import Limits
from backupd.errors import EngineError, HelperFailed, Interrupted, VolumeNotFound
from tests.docker.conftest import MakeVolume, RunInVolume
from tests.docker.own_engine import wait_until
from tests.docker.tar import INSTANCE, RUN_ID, helpers, names, read_all, save

pytestmark = pytest.mark.docker

OURS = {"instance": INSTANCE, "run": RUN_ID}


@pytest.fixture
def big_volume(make_volume: MakeVolume, run_in_volume: RunInVolume) -> str:
    """A volume whose stream does not fit into any buffer on the way."""
    volume = make_volume()
    run_in_volume(volume, "for i in 1 2 3 4 5 6 7 8; do head -c 8000000 /dev/urandom >f$i; done")
    return volume


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _write_all(entry: TarInput, content: bytes) -> None:
    entry.write(content)
    entry.finish()


@pytest.fixture
def kill_helper(engine: Engine) -> Iterator[Callable[[], None]]:
    """Kill the helper from beside: the engine answers only when somebody takes the output that is left.

    Its tar is dead on return: it could be done before the engine comes to it.
    """
    with ThreadPoolExecutor() as beside:
        killings: list[Future[None]] = []

        def kill() -> None:
            (helper,) = helpers(engine)
            process = engine.api.inspect_container(str(helper["Id"]))["State"]["Pid"]
            killings.append(beside.submit(lambda: engine.api.kill(str(helper["Id"]))))
            wait_until(lambda: not _lives(process))

        yield kill
        for killing in killings:
            killing.result(timeout=30)


def test_killed_helper_is_a_failure_and_no_end(
    engine: Engine,
    gnu: HelperImage,
    big_volume: str,
    fifo_dir: Path | None,
    kill_helper: Callable[[], None],
) -> None:
    """E13, E14: a stream cut by the death of tar raises, with the volume's name; it does not just end."""
    buffer = memoryview(bytearray(4096))
    with export(engine, big_volume, gnu, fifo_dir=fifo_dir, **OURS) as output:
        assert output.readinto(buffer) > 0
        kill_helper()
        with pytest.raises(HelperFailed, match=f"{big_volume} was killed by signal 9"):
            read_all(output)
        with pytest.raises(HelperFailed):
            output.finish()
    assert helpers(engine) == []


def test_helper_out_of_memory_is_a_failure(
    engine: Engine,
    gnu: HelperImage,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    fifo_dir: Path | None,
) -> None:
    """E13: a tar that the kernel kills for its memory fails the backup."""
    volume = make_volume()
    run_in_volume(volume, 'python3 -c \'for i in range(60000): open(f"{i:0150}", "w").close()\'')
    engine.limits = Limits(memory_bytes=6 * 1024 * 1024)
    with (
        pytest.raises(HelperFailed, match=f"{volume} (ran out of memory|was killed)"),
        export(engine, volume, gnu, fifo_dir=fifo_dir, **OURS) as output,
    ):
        read_all(output)
    assert helpers(engine) == []


def test_failing_tar_is_a_failure_with_its_words(
    engine: Engine, gnu: HelperImage, make_volume: MakeVolume, fifo_dir: Path | None
) -> None:
    """E13: a tar that ends with 2 has failed, and its last words are told."""
    volume = make_volume()
    with extract(engine, volume, gnu, fifo_dir=fifo_dir, **OURS) as entry:
        entry.write(b"no tar at all" * 1000)
        with pytest.raises(
            HelperFailed, match=f"{volume} ended with exit code 2: tar: This does not look like"
        ):
            entry.finish()


def test_cancel_ends_a_transfer_and_removes_the_helper(
    engine: Engine, gnu: HelperImage, big_volume: str, fifo_dir: Path | None
) -> None:
    """E3: cancelled in the middle, reading stops and the helper goes."""
    cancel = threading.Event()
    buffer = memoryview(bytearray(4096))
    with export(engine, big_volume, gnu, fifo_dir=fifo_dir, cancel=cancel, **OURS) as output:
        assert output.readinto(buffer) > 0
        cancel.set()
        with pytest.raises(Interrupted):
            read_all(output)
    assert helpers(engine) == []


def test_cancel_ends_a_transfer_that_stands_still(
    engine: Engine, gnu: HelperImage, big_volume: str, fifo_dir: Path | None
) -> None:
    """E3: a reader that waits for a tar which gives nothing hears the cancellation too."""
    cancel = threading.Event()
    with export(engine, big_volume, gnu, fifo_dir=fifo_dir, cancel=cancel, **OURS) as output:
        (helper,) = helpers(engine)
        engine.api.pause(str(helper["Id"]))
        threading.Timer(0.5, cancel.set).start()
        with pytest.raises(Interrupted):
            read_all(output)
    assert helpers(engine) == []


def test_cancel_ends_an_extraction_that_stands_still(
    engine: Engine, gnu: HelperImage, make_volume: MakeVolume, big_volume: str, fifo_dir: Path | None
) -> None:
    """E3: a writer whose tar takes nothing hears the cancellation."""
    content = save(engine, big_volume, gnu, fifo_dir)
    cancel = threading.Event()
    with extract(engine, make_volume(), gnu, fifo_dir=fifo_dir, cancel=cancel, **OURS) as entry:
        (helper,) = helpers(engine)
        engine.api.pause(str(helper["Id"]))
        threading.Timer(0.5, cancel.set).start()
        with pytest.raises(Interrupted):
            entry.write(content)
    assert helpers(engine) == []


def test_error_in_the_reader_removes_the_helper(
    engine: Engine, gnu: HelperImage, big_volume: str, fifo_dir: Path | None
) -> None:
    """Whatever happens between, the helper is gone afterwards."""
    with pytest.raises(ZeroDivisionError), export(engine, big_volume, gnu, fifo_dir=fifo_dir, **OURS):
        raise ZeroDivisionError
    assert helpers(engine) == []
    assert fifo_dir is None or list(fifo_dir.iterdir()) == []


def test_full_volume_is_told_in_tars_words(
    engine: Engine, gnu: HelperImage, make_volume: MakeVolume, big_volume: str, fifo_dir: Path | None
) -> None:
    """A target without room fails with what tar said, not with a broken pipe."""
    small = make_volume(type="tmpfs", device="tmpfs", o="size=4m")
    content = save(engine, big_volume, gnu, fifo_dir)
    with (
        extract(engine, small, gnu, fifo_dir=fifo_dir, **OURS) as entry,
        pytest.raises(HelperFailed, match=f"{small} .*No space left on device") as caught,
    ):
        _write_all(entry, content)
    assert caught.value.hint
    assert helpers(engine) == []


def test_cut_stream_is_refused_by_tar(
    engine: Engine, gnu: HelperImage, make_volume: MakeVolume, big_volume: str, fifo_dir: Path | None
) -> None:
    """E14: an extraction that gets half a stream fails."""
    content = save(engine, big_volume, gnu, fifo_dir)
    with (
        extract(engine, make_volume(), gnu, fifo_dir=fifo_dir, **OURS) as entry,
        pytest.raises(HelperFailed, match="Unexpected EOF"),
    ):
        _write_all(entry, content[: len(content) // 2])


def test_absent_volume_is_not_made(engine: Engine, gnu: HelperImage, fifo_dir: Path | None) -> None:
    """I20: a volume that does not exist is an error and does not come into being."""
    with (
        pytest.raises(VolumeNotFound),
        export(engine, "backupd-test-absent", gnu, fifo_dir=fifo_dir, **OURS),
    ):
        pytest.fail("the helper started")
    with pytest.raises(VolumeNotFound):
        engine.volume("backupd-test-absent")
    assert helpers(engine) == []


def test_volume_that_vanishes_before_the_helper_is_made_is_not_made_again(
    engine: Engine,
    gnu: HelperImage,
    make_volume: MakeVolume,
    fifo_dir: Path | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I20, E18: deleted between the check and the mount, the volume stays deleted and the run fails."""
    volume = make_volume()
    before = engine.volume

    def check_and_lose(name: str) -> object:
        found = before(name)
        engine.remove_volume(name)
        return found

    monkeypatch.setattr(engine, "volume", check_and_lose)
    with (
        pytest.raises(EngineError),
        export(engine, volume, gnu, fifo_dir=fifo_dir, **OURS),
    ):
        pytest.fail("the helper started")
    monkeypatch.undo()
    with pytest.raises(VolumeNotFound):
        engine.volume(volume)
    assert helpers(engine) == []


def test_volume_cannot_be_deleted_while_it_is_read(
    engine: Engine, gnu: HelperImage, make_volume: MakeVolume, fifo_dir: Path | None
) -> None:
    """E18: during a backup the engine refuses to delete the volume, by force too."""
    volume = make_volume()
    with export(engine, volume, gnu, fifo_dir=fifo_dir, **OURS) as output:
        with pytest.raises(APIError, match="in use"):
            engine.api.remove_volume(volume, force=True)
        assert names(read_all(output)) == ["."]


def test_files_that_vanish_from_under_tar_are_a_failure(
    engine: Engine,
    gnu: HelperImage,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    fifo_dir: Path | None,
) -> None:
    """E15, E18: what is deleted while tar reads shows in its exit code and its words."""
    volume = make_volume()
    run_in_volume(volume, "mkdir a z; head -c 20000000 /dev/urandom >a/f; touch z/g")
    buffer = memoryview(bytearray(4096))
    with export(engine, volume, gnu, fifo_dir=fifo_dir, **OURS) as output:
        assert output.readinto(buffer) > 0
        run_in_volume(volume, "rm -rf z; echo more >>a/f")
        read_all(output)
        result = output.finish()
    assert result.exit_code == 1
    assert any("changed as we read it" in line for line in result.messages)


def test_image_without_tar_is_told(engine: Engine, make_volume: MakeVolume, fifo_dir: Path | None) -> None:
    """A helper that cannot even start is an error that names the volume."""
    volume = make_volume()
    gone = HelperImage("backupd-test-no-such-image:1", "gnu", "1")
    with pytest.raises(EngineError, match=volume), export(engine, volume, gone, fifo_dir=fifo_dir, **OURS):
        pytest.fail("the helper started")
