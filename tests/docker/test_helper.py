"""Tar streams out of and into real volumes, through both transports."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from docker.types import Mount

from backupd.engine.client import Engine
from backupd.engine.fifo import Meeting
from backupd.engine.helper import export, is_empty, wipe
from backupd.engine.image import HelperImage
from tests.docker.conftest import MakeVolume, RunInVolume, StartContainer
from tests.docker.tar import INSTANCE, RUN_ID, helpers, load, names, read_all, save
from tests.docker.trees import LISTING, TORTURE

pytestmark = pytest.mark.docker


def test_exotic_tree_comes_back_and_gives_the_same_stream(
    engine: Engine,
    gnu: HelperImage,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    fifo_dir: Path | None,
) -> None:
    """I12: everything a file system can hold survives, and the copy gives the same stream of bytes."""
    original, copy = make_volume(), make_volume()
    run_in_volume(original, TORTURE)
    content = save(engine, original, gnu, fifo_dir)
    load(engine, copy, gnu, fifo_dir, content)
    assert run_in_volume(copy, LISTING) == run_in_volume(original, LISTING)
    assert save(engine, copy, gnu, fifo_dir) == content


def test_members_are_relative_and_sorted(
    engine: Engine,
    gnu: HelperImage,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    fifo_dir: Path | None,
) -> None:
    """The stream starts with the root and names nothing absolute, in the order of names."""
    volume = make_volume()
    run_in_volume(volume, "mkdir b; touch b/2 b/1 a c")
    assert names(save(engine, volume, gnu, fifo_dir)) == [".", "./a", "./b", "./b/1", "./b/2", "./c"]


@pytest.mark.parametrize("tar", ["gnu", "busybox"])
def test_nothing_of_the_volume_is_read_before_the_beginning(
    engine: Engine,
    request: pytest.FixtureRequest,
    tar: str,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    fifo_dir: Path | None,
) -> None:
    """A helper that runs before the containers are quiet has the volume as it is when they are."""
    volume, image = make_volume(), request.getfixturevalue(tar)
    run_in_volume(volume, "touch a gone")
    with export(engine, volume, image, instance=INSTANCE, run=RUN_ID, fifo_dir=fifo_dir) as output:
        run_in_volume(volume, "touch late; rm gone")
        output.begin()
        assert set(names(read_all(output))) == {".", "./a", "./late"}


def test_empty_volume_gives_a_whole_stream(
    engine: Engine, gnu: HelperImage, make_volume: MakeVolume, fifo_dir: Path | None
) -> None:
    """I10: an empty volume is its root and the end of the archive."""
    assert names(save(engine, make_volume(), gnu, fifo_dir)) == ["."]


def test_busybox_tar_serves_where_nothing_else_is(
    engine: Engine,
    busybox: HelperImage,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    fifo_dir: Path | None,
) -> None:
    """Plain Alpine's tar moves files, links, modes and owners."""
    original, copy = make_volume(), make_volume()
    run_in_volume(original, "mkdir d; echo x >d/f; ln -s f d/l; chown 5:6 d/f; chmod 604 d/f")
    content = save(engine, original, busybox, fifo_dir)
    load(engine, copy, busybox, fifo_dir, content)
    listing = "find . -printf '%p|%y|%m|%U|%G|%l\n' | sort"
    assert run_in_volume(copy, listing) == run_in_volume(original, listing)


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("*.log", [".", "./a", "./a/cache", "./a/cache/x", "./cache", "./cache/y"]),
        ("cache", [".", "./a", "./a/z.log"]),
        ("/cache", [".", "./a", "./a/cache", "./a/cache/x", "./a/z.log"]),
        ("a/cache", [".", "./a", "./a/z.log", "./cache", "./cache/y"]),
        (
            "--checkpoint-action=exec=sh",
            [".", "./a", "./a/cache", "./a/cache/x", "./a/z.log", "./cache", "./cache/y"],
        ),
    ],
)
def test_excluded_members_are_left_out(
    engine: Engine,
    gnu: HelperImage,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    pattern: str,
    left: list[str],
) -> None:
    """Patterns are tar's; one with a leading slash means the volume's root; none becomes an option of tar."""
    volume = make_volume()
    run_in_volume(volume, "mkdir -p a/cache cache; touch a/cache/x a/z.log cache/y")
    assert names(save(engine, volume, gnu, None, exclude=(pattern,))) == left


def test_small_buffer_and_small_writes_lose_nothing(
    engine: Engine,
    gnu: HelperImage,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    fifo_dir: Path | None,
) -> None:
    """The stream does not depend on the sizes in which it is read."""
    volume = make_volume()
    run_in_volume(volume, "head -c 200000 /dev/urandom >f")
    whole = save(engine, volume, gnu, fifo_dir)
    with export(engine, volume, gnu, instance=INSTANCE, run=RUN_ID, fifo_dir=fifo_dir) as output:
        assert read_all(output, 777) == whole


def test_helper_is_locked_down_and_leaves_nothing(
    engine: Engine, gnu: HelperImage, make_volume: MakeVolume, fifo_dir: Path | None
) -> None:
    """The helper reads, has no network and no rights beyond, and is gone afterwards with its FIFO."""
    volume = make_volume()
    with export(engine, volume, gnu, instance=INSTANCE, run=RUN_ID, fifo_dir=fifo_dir) as output:
        (helper,) = helpers(engine)
        made = engine.api.inspect_container(str(helper["Id"]))
        read_all(output)
    host = made["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert [cap.removeprefix("CAP_") for cap in host["CapAdd"]] == ["DAC_READ_SEARCH"]
    assert "no-new-privileges" in host["SecurityOpt"]
    assert host["LogConfig"]["Type"] == "none"
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert made["Config"]["Entrypoint"] == ["tar"]
    assert made["Name"].startswith(f"/backupd-{volume}-")
    assert all(not mount["RW"] for mount in made["Mounts"])
    assert helpers(engine) == []
    assert fifo_dir is None or list(fifo_dir.iterdir()) == []
    assert engine.volume(volume)


def test_unusable_meeting_place_falls_back_to_attach(
    engine: Engine, gnu: HelperImage, make_volume: MakeVolume, tmp_path: Path
) -> None:
    """A directory where no FIFO can be made costs speed, not the backup."""
    volume = make_volume()
    file = tmp_path / "file"
    file.touch()
    with export(engine, volume, gnu, instance=INSTANCE, run=RUN_ID, fifo_dir=file / "below") as output:
        assert output.transport == "attach"
        assert names(read_all(output)) == ["."]


def test_a_meeting_place_that_is_not_there_yet_is_made(
    engine: Engine, gnu: HelperImage, make_volume: MakeVolume, tmp_path: Path
) -> None:
    """Nobody has to prepare it for the fast transport."""
    place = tmp_path / "state" / "fifo"
    with export(engine, make_volume(), gnu, instance=INSTANCE, run=RUN_ID, fifo_dir=place) as output:
        assert output.transport == "fifo"
        assert names(read_all(output)) == ["."]


def test_meeting_place_the_engine_does_not_see_falls_back_to_attach(
    engine: Engine,
    gnu: HelperImage,
    make_volume: MakeVolume,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An engine with other directories than ours, which refuses the mount, is served by attach."""
    monkeypatch.setattr("backupd.engine.fifo._shared", lambda *_: (_absent_bind(), "."))
    volume = make_volume()
    with export(engine, volume, gnu, instance=INSTANCE, run=RUN_ID, fifo_dir=tmp_path) as output:
        assert output.transport == "attach"
        assert names(read_all(output)) == ["."]
    assert helpers(engine) == []


def _absent_bind() -> Mount:
    return Mount("/backupd", "/nowhere/at/all", type="bind", read_only=True)


def test_helper_that_does_not_open_the_fifo_falls_back_to_attach(
    engine: Engine,
    gnu: HelperImage,
    make_volume: MakeVolume,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A FIFO in which helper and backupd do not meet, as with a virtual machine between, does not hang."""
    monkeypatch.setattr("backupd.engine.fifo.MEETING_SECONDS", 1.0)
    monkeypatch.setattr("backupd.engine.fifo._place", lambda *_: _fifo_elsewhere(tmp_path))
    volume = make_volume()
    with export(engine, volume, gnu, instance=INSTANCE, run=RUN_ID, fifo_dir=tmp_path) as output:
        assert output.transport == "attach"
        assert names(read_all(output)) == ["."]
    assert helpers(engine) == []


def _fifo_elsewhere(directory: Path) -> Meeting:
    for side in ("ours", "theirs"):
        (directory / side).mkdir()
        os.mkfifo(directory / side / "tar")
        (directory / side / "tar").chmod(0o666)
    mount = Mount("/backupd", str(directory / "theirs"), type="bind", read_only=True)
    return Meeting(directory / "ours" / "tar", mount, "/backupd/tar")


def test_content_is_told_and_wiped(
    engine: Engine, gnu: HelperImage, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """A volume is empty or not, whatever the names in it, and can be emptied; the volume stays."""
    volume = make_volume()
    ours = {"instance": INSTANCE, "run": RUN_ID}
    assert is_empty(engine, volume, gnu, **ours)
    run_in_volume(volume, "mkdir -p .hidden/deep; touch .hidden/deep/f -- -rf; ln -s / root; chmod 0 .hidden")
    assert not is_empty(engine, volume, gnu, **ours)
    wipe(engine, volume, gnu, **ours)
    assert is_empty(engine, volume, gnu, **ours)
    assert engine.volume(volume)
    assert helpers(engine) == []


def test_anonymous_volumes_of_the_image_do_not_pile_up(
    engine: Engine, gnu: HelperImage, make_volume: MakeVolume, start_container: StartContainer
) -> None:
    """An image that declares volumes of its own leaves none behind."""
    container = start_container("true")
    engine.api.wait(container)
    tag = "backupd-test-with-volume"
    engine.api.commit(container, tag, changes="VOLUME /extra")
    try:
        before = {volume["Name"] for volume in engine.api.volumes()["Volumes"]}
        volume = make_volume()
        save(engine, volume, HelperImage(tag, "gnu", "1.34"), None)
        made = {volume["Name"] for volume in engine.api.volumes()["Volumes"]} - before - {volume}
        assert not [name for name in made if len(name) == 64]
    finally:
        engine.api.remove_image(tag, force=True)


def test_stream_can_be_read_by_anybody(
    engine: Engine, gnu: HelperImage, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """The stream is plain tar: the standard library reads contents from it."""
    volume = make_volume()
    run_in_volume(volume, "printf hello >greeting")
    with tarfile.open(fileobj=io.BytesIO(save(engine, volume, gnu, None))) as archive:
        member = archive.extractfile("./greeting")
        assert member is not None
        assert member.read() == b"hello"
