"""Files of a snapshot, chosen and fetched without the rest."""

from __future__ import annotations

import io
import resource
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from backupd.errors import BackupdError, SnapshotNotFound, UsageError
from backupd.operations.parts import chosen, select
from backupd.operations.unpack import unpack
from backupd.progress import silent
from backupd.snapshot import Manifest
from tests.docker.conftest import MakeVolume, RunInVolume
from tests.docker.operations.conftest import Site

pytestmark = pytest.mark.docker

FILL = """
mkdir -p avatars/small etc big
for n in 1 2 3; do echo "face $n" > avatars/$n.png; echo "tiny $n" > avatars/small/$n.png; done
echo text > avatars/notes.txt; ln etc/../avatars/notes.txt etc/linked; ln -s notes.txt avatars/soft
echo star > 'etc/a*b'; chown 4711:815 avatars/1.png; chmod 640 avatars/1.png
setfattr -n user.note -v kept avatars/1.png
head -c 20000000 /dev/urandom > big/noise
"""


@pytest.fixture
def saved(site: Site, make_volume: MakeVolume, run_in_volume: RunInVolume) -> tuple[Site, Manifest, str]:
    """A snapshot of a volume, and the volume."""
    volume = make_volume()
    run_in_volume(volume, FILL)
    return site, site.backup(volume), volume


def names(site: Site, manifest: Manifest, *paths: str) -> set[str]:
    reader = site.context.repository.reader(manifest)
    stream = b"".join(chosen(reader, select(reader, paths), threading.Event()))
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        return {member.name.removeprefix("./") for member in tar}


def test_files_directories_and_patterns_are_chosen(saved: tuple[Site, Manifest, str]) -> None:
    """`*` stays within a directory, `**` does not, a directory brings all below it."""
    site, manifest, _ = saved
    assert names(site, manifest, "avatars/1.png") == {"avatars/1.png"}
    assert names(site, manifest, "/avatars/*.png") == {f"avatars/{n}.png" for n in (1, 2, 3)}
    assert names(site, manifest, "avatars/small/") == {
        *("avatars/small", "avatars/small/1.png", "avatars/small/2.png", "avatars/small/3.png")
    }
    both = {f"avatars/{n}.png" for n in (1, 2, 3)} | {f"avatars/small/{n}.png" for n in (1, 2, 3)}
    assert names(site, manifest, "**/*.png") == both
    assert names(site, manifest, "etc/a*b", "avatars/?.png") == {
        "etc/a*b",
        *(b for b in both if "small" not in b),
    }


def test_a_hard_link_brings_its_file_along(saved: tuple[Site, Manifest, str]) -> None:
    """Without the file there would be nothing to link to."""
    site, manifest, _ = saved
    assert names(site, manifest, "etc/linked") == {"avatars/notes.txt", "etc/linked"}


def test_a_path_that_fits_nothing_is_named(saved: tuple[Site, Manifest, str]) -> None:
    """Before anything is written."""
    site, manifest, _ = saved
    reader = site.context.repository.reader(manifest)
    with pytest.raises(SnapshotNotFound, match=r"has no avatars/9\.png"):
        select(reader, ["avatars/1.png", "avatars/9.png"])


def test_chosen_files_come_into_a_directory_as_they_were(
    saved: tuple[Site, Manifest, str], tmp_path: Path
) -> None:
    """Owner, mode, attributes and links, as tar tells them; the rest of the snapshot stays where it is."""
    site, manifest, _ = saved
    reader = site.context.repository.reader(manifest)
    directory = tmp_path / "some" / "where"
    selection = select(reader, ["avatars/*", "etc/linked"])
    done = unpack(reader, selection, directory, progress=silent, cancel=threading.Event())
    assert done.members == 10
    face = directory / "avatars" / "1.png"
    assert face.read_text() == "face 1\n"
    assert (face.stat().st_uid, face.stat().st_gid, face.stat().st_mode & 0o777) == (4711, 815, 0o640)
    attributes = subprocess.run(
        ["tar", "-c", "--xattrs", "-C", directory, "."], capture_output=True, check=True
    )
    assert b"SCHILY.xattr.user.note=kept" in attributes.stdout
    assert (directory / "avatars" / "soft").readlink() == Path("notes.txt")
    assert (directory / "etc" / "linked").samefile(directory / "avatars" / "notes.txt")
    assert not (directory / "big").exists()


def test_a_directory_that_holds_something_is_left_alone(
    saved: tuple[Site, Manifest, str], tmp_path: Path
) -> None:
    """What lies there could be overwritten, and a link in it could lead tar elsewhere."""
    site, manifest, _ = saved
    reader = site.context.repository.reader(manifest)
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UsageError, match="is not empty"):
        unpack(reader, select(reader, ["etc"]), tmp_path, progress=silent, cancel=threading.Event())
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_tar_that_fails_is_told(saved: tuple[Site, Manifest, str], tmp_path: Path) -> None:
    """A file that does not fit: what tar did extract stays to be looked at."""
    site, manifest, _ = saved
    reader = site.context.repository.reader(manifest)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(BackupdError, match="tar could not extract all of it") as caught:
            unpack(
                reader, select(reader, ["big"]), tmp_path / "new", progress=silent, cancel=threading.Event()
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.hint
    assert (tmp_path / "new" / "big").is_dir()
