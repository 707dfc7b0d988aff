"""What a directory does when the disk is full, the sync fails, or the writer is killed."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from backupd.errors import StorageError
from backupd.storage.local import LocalStorage

LIMIT = 8 << 20

FILL_THE_DISK = """
import sys
from pathlib import Path
from backupd.errors import StorageFull
from backupd.storage.local import LocalStorage
root = Path(sys.argv[1])
with LocalStorage(root) as storage:
    storage.put("before/1", b"kept" * 1000)
    storage.flush()
    try:
        for number in range(8):
            storage.put(f"after/{number}", bytes([number]) * (600 << 10))
            storage.flush()
        sys.exit("nothing was refused")
    except StorageFull as error:
        assert str(root) in error.message and error.hint and str(root) in error.hint, error.message
    assert storage.get("before/1", limit_bytes=4000) == b"kept" * 1000
    assert not storage.exists(f"after/{number}")
    for info in storage.list("after/"):
        content = storage.get(info.key, limit_bytes=600 << 10)
        assert content == bytes([int(info.key[-1])]) * (600 << 10), info.key
    (writer,) = (p for p in (root / ".writing").iterdir() if p.is_dir())
    assert [p.name for p in writer.iterdir()] == ["lock"], "a part was left"
"""

WRITE_FOR_EVER = """
import hashlib, itertools, os, random, sys
from pathlib import Path
from backupd.storage.local import LocalStorage
storage = LocalStorage(Path(sys.argv[1]), uncommitted_bytes=1 << 20)
for number in itertools.count():
    content = os.urandom(random.randrange(200_000))
    key = hashlib.sha256(content).hexdigest()
    storage.put(f"chunks/{key[:2]}/{key}", content)
    if random.random() < 0.2:
        storage.flush()
    print(number, flush=True)
"""

WAIT_WITH_AN_OBJECT = """
import sys
from pathlib import Path
from backupd.storage.local import LocalStorage
with LocalStorage(Path(sys.argv[1])) as storage:
    storage.put("from the living", b"x")
    print("ready", flush=True)
    sys.stdin.readline()
    storage.flush()
"""


def python(script: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", script, str(folder)]


def failing_sync(fails: Callable[[os.stat_result], bool], code: int = errno.EIO) -> Callable[[int], None]:
    """A sync that fails for the files and directories that `fails` picks, as a broken disk does."""

    def sync(descriptor: int) -> None:
        if fails(os.fstat(descriptor)):
            raise OSError(code, os.strerror(code))
        os.fsync(descriptor)

    return sync


def writers(folder: Path) -> list[Path]:
    return [p for p in (folder / ".writing").iterdir() if p.is_dir()]


def put_many(storage: LocalStorage) -> None:
    for number in range(1000):
        storage.put(f"{number}", b"x" * 100)


def test_full_disk_keeps_what_was_stored_and_no_part(tmp_path: Path) -> None:
    """R1: a real full disk: `StorageFull` names the directory, earlier objects are whole, no part remains."""
    mount = 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, str(tmp_path)]
    allowed = (
        shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    )
    if not allowed:
        pytest.skip("no user namespaces here: the file size limit below stands in for the full disk")
    done = subprocess.run([*command, *python(FILL_THE_DISK, tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_file_size_limit_is_answered_like_a_full_disk(tmp_path: Path) -> None:
    """R1: a limit that the system sets cuts a write short in the middle of an object."""
    done = subprocess.run(
        python(FILL_THE_DISK, tmp_path),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_failed_sync_loses_that_object_and_is_raised_from_then_on(tmp_path: Path) -> None:
    """R2: the object is never under its name nor said to be, and no later call succeeds as if it had."""
    sync = failing_sync(lambda found: found.st_size == 13)
    with LocalStorage(tmp_path, sync=sync) as storage:
        storage.put("good", b"x")
        storage.put("bad", b"x" * 13)
        for _ in range(2):
            with pytest.raises(StorageError, match="bad") as caught:
                storage.flush()
        assert str(tmp_path) in caught.value.message
        assert "disk" in (caught.value.hint or "")
        with pytest.raises(StorageError, match="bad"):
            storage.put("bad", b"x" * 13)
        assert not storage.exists("bad")
        assert [info.key for info in storage.list("bad")] == []
    assert not list(tmp_path.rglob("bad"))
    assert writers(tmp_path) == []
    with LocalStorage(tmp_path) as again:
        assert again.put("bad", b"x" * 13) is True
        again.flush()


def test_failed_sync_of_a_directory_is_raised_from_then_on(tmp_path: Path) -> None:
    """R2: a name that may not be durable is not flushed, also for the next caller."""
    sync = failing_sync(lambda found: stat.S_ISDIR(found.st_mode))
    with LocalStorage(tmp_path, sync=sync) as storage:
        storage.put("a/b", b"x")
        for _ in range(2):
            with pytest.raises(StorageError, match="durable"):
                storage.flush()


def test_failed_sync_wakes_puts_that_wait_for_room(tmp_path: Path) -> None:
    """R2: a writer that is held back by unsynced objects learns of the failure and goes on."""
    sync = failing_sync(lambda found: True)
    with (
        LocalStorage(tmp_path, sync=sync, uncommitted_bytes=10) as storage,
        pytest.raises(StorageError, match="durable"),
    ):
        put_many(storage)
    assert [p.name for p in tmp_path.iterdir()] == [".writing"]


def test_killed_writer_leaves_whole_objects_only(tmp_path: Path) -> None:
    """R3: whatever `kill -9` interrupts, a file under a final name is whole; the next writer tidies up."""
    for turn in range(8):
        with subprocess.Popen(python(WRITE_FOR_EVER, tmp_path), stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            for _ in range(3 + 7 * turn):
                assert writer.stdout.readline()
            writer.kill()
        with LocalStorage(tmp_path) as storage:
            for info in storage.list("chunks/"):
                content = storage.get(info.key, limit_bytes=LIMIT)
                assert info.key.endswith(hashlib.sha256(content).hexdigest())
            assert len(writers(tmp_path)) == 1, "the dead writer's folder"
            storage.put(f"turn/{turn}", b"")
            assert len(writers(tmp_path)) == 1, "this writer's folder"
    assert writers(tmp_path) == []


def test_temporary_files_of_a_living_writer_stay(tmp_path: Path) -> None:
    """Tidying up asks the kernel who lives, so nobody pulls the files from under the first."""
    command = python(WAIT_WITH_AN_OBJECT, tmp_path)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as living:
        assert living.stdin
        assert living.stdout
        assert living.stdout.readline() == b"ready\n"
        with LocalStorage(tmp_path) as storage:
            storage.put("mine", b"")
            storage.flush()
            assert len(writers(tmp_path)) == 2
        living.stdin.write(b"\n")
        living.stdin.close()
        assert living.wait(60) == 0
    assert (tmp_path / "from the living").read_bytes() == b"x"
