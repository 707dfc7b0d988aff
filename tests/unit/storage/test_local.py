"""What a directory adds to the promise of every storage: rights, syncs, strangers in the directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backupd.errors import StorageError, UsageError
from backupd.storage.local import LocalStorage
from backupd.storage.location import open_storage
from backupd.storage.publish import publish
from backupd.storage.s3options import S3Options

LIMIT = 1 << 20


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def hidden(folder: Path) -> list[str]:
    """Temporary files and folders of writers."""
    return [name for name in files(folder / ".writing") if name != "lock"]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[LocalStorage]:
    with LocalStorage(tmp_path) as storage:
        yield storage


def test_missing_directory_hints_at_an_unmounted_disk(tmp_path: Path) -> None:
    """I19: a directory that is not there is never made in passing."""
    with pytest.raises(StorageError, match="does not exist") as caught:
        LocalStorage(tmp_path / "disk")
    assert "mounted" in (caught.value.hint or "")
    assert not (tmp_path / "disk").exists()


def test_create_makes_a_private_directory_and_keeps_an_existing_one(tmp_path: Path) -> None:
    """The new directory is its owner's alone; one that is there is used as it is."""
    for _ in range(2):
        with LocalStorage.create(tmp_path / "a" / "b") as storage:
            storage.put("x", b"")
            storage.flush()
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_objects_and_folders_are_for_their_owner_alone(storage: LocalStorage, tmp_path: Path) -> None:
    """Backups hold secrets: files get mode 0600, directories 0700."""
    storage.put("chunks/ab/1", b"secret")
    storage.flush()
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "chunks").rglob("*")}
    assert modes == {"ab": 0o700, "1": 0o600}
    assert stat.S_IMODE((tmp_path / "chunks").stat().st_mode) == 0o700


def test_reading_leaves_the_directory_untouched(tmp_path: Path) -> None:
    """A repository on a read-only mount can be restored from."""
    (tmp_path / "x").write_bytes(b"1")
    with LocalStorage(tmp_path) as storage:
        assert storage.get("x", limit_bytes=1) == b"1"
        assert [info.key for info in storage.list()] == ["x"]
    assert files(tmp_path) == ["x"]


def test_strangers_in_the_directory_are_no_objects(storage: LocalStorage, tmp_path: Path) -> None:
    """What cannot be a key, the file system's own folder and unflushed objects are not listed."""
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found" / "#12").touch()
    (tmp_path / ".nfs0001").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).touch()
    storage.put("unflushed", b"")
    assert list(storage.list()) == []


def test_directory_in_the_place_of_an_object_is_an_error(storage: LocalStorage) -> None:
    """`a` cannot be stored beside `a/b`, and is not said to be."""
    storage.put("a/b", b"")
    storage.flush()
    with pytest.raises(StorageError):
        storage.put("a", b"")
    with pytest.raises(StorageError):
        storage.put("a/b/c", b"")


def test_every_file_is_synced_before_it_has_its_name(tmp_path: Path) -> None:
    """R3: a file under its final name is whole even after a loss of power."""
    synced: list[int] = []

    def sync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            assert found.st_nlink == 1, "it has a second name already"
            assert tmp_path / ".writing" in Path(f"/proc/self/fd/{descriptor}").readlink().parents
        synced.append(found.st_ino)
        os.fsync(descriptor)

    with LocalStorage(tmp_path, sync=sync) as storage:
        for number in range(100):
            storage.put(f"chunks/{number % 3}/{number}", b"x" * 1000)
        storage.flush()
        written = {
            p.stat().st_ino for p in [tmp_path, *tmp_path.rglob("chunks*"), *tmp_path.rglob("chunks/**/*")]
        }
        assert written == set(synced)
        assert len(synced) == len(set(synced)), "nothing is synced twice"


def test_flush_syncs_the_folders_of_objects_that_were_found(tmp_path: Path) -> None:
    """R3: what another writer has put but not flushed may be relied upon after one's own flush."""
    synced: list[int] = []
    with LocalStorage(tmp_path) as other:
        other.put("chunks/ab/1", b"")
        other.put("chunks/cd/2", b"")
        other.flush()
    with LocalStorage(tmp_path, sync=lambda fd: synced.append(os.fstat(fd).st_ino)) as storage:
        assert storage.exists("chunks/ab/1")
        storage.flush()
        assert set(synced) == {
            p.stat().st_ino for p in (tmp_path, tmp_path / "chunks", tmp_path / "chunks/ab")
        }
        assert storage.put("chunks/cd/2", b"") is False
        storage.flush()
        assert (tmp_path / "chunks/cd").stat().st_ino in synced


def test_uncommitted_bytes_stay_within_their_limit(tmp_path: Path) -> None:
    """A disk that syncs slowly slows `put` down; the limit is passed by no more than one object a thread."""
    waiting: list[int] = []

    def sync(descriptor: int) -> None:
        waiting.append(sum(p.stat().st_size for p in (tmp_path / ".writing").rglob("*") if p.is_file()))

    with (
        LocalStorage(tmp_path, sync=sync, uncommitted_bytes=50_000) as storage,
        ThreadPoolExecutor(2) as pool,
    ):
        list(pool.map(lambda n: storage.put(f"{n}", b"x" * 10_000), range(60)))
        storage.flush()
    assert max(waiting) <= 50_000 + 2 * 10_000


def test_first_of_two_writers_to_commit_a_key_wins(tmp_path: Path) -> None:
    """Two processes may put the same chunk; one of them stays, whole, and neither fails."""
    with LocalStorage(tmp_path) as one, LocalStorage(tmp_path) as two:
        assert one.put("k", b"one")
        assert two.put("k", b"two")
        two.flush()
        one.flush()
        assert one.get("k", limit_bytes=LIMIT) == b"two"
        assert len(hidden(tmp_path)) == 2, "one lock each, no temporary files"


def test_close_leaves_no_temporary_file(tmp_path: Path) -> None:
    """The writer's folder goes with the writer, and a closed storage takes nothing more."""
    storage = LocalStorage(tmp_path)
    storage.put("k", b"x")
    storage.close()
    assert hidden(tmp_path) == []
    assert storage.get("k", limit_bytes=LIMIT) == b"x"
    with pytest.raises(StorageError, match="closed"):
        storage.put("l", b"x")


def test_file_system_without_links_still_never_overwrites(tmp_path: Path) -> None:
    """Sixteen writers of one name on such a file system: one of them gets it."""

    def refuse(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    def move(number: int) -> bool:
        source = tmp_path / f"source{number}"
        source.write_bytes(bytes([number]))
        try:
            publish(str(source), str(tmp_path / "target"), str(tmp_path / "lock"), refuse)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(move, range(16)))
    assert won.count(True) == 1
    assert (tmp_path / "target").read_bytes() == bytes([won.index(True)])


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_location_is_a_directory_or_a_file_address(tmp_path: Path, form: str) -> None:
    """Both ways of writing it lead to the same storage, and `create` makes it."""
    location = form.format(tmp_path / "new")
    with pytest.raises(StorageError):
        open_storage(location, S3Options())
    open_storage(location, S3Options(), create=True).close()
    assert open_storage(location, S3Options()).location == str(tmp_path / "new")


@pytest.mark.parametrize(
    "location", ["", "backups", "./b", "~/b", "memory:", "file://host/b", "file:b", "/a\0b"]
)
def test_other_locations_are_refused(location: str) -> None:
    """What is not an absolute directory is a mistake in the settings, told as one."""
    with pytest.raises(UsageError, match="storage location") as caught:
        open_storage(location, S3Options())
    assert "/backups" in (caught.value.hint or "")
