"""Parts of a snapshot: what is exported of it, and how little is read for that."""

from __future__ import annotations

import io
import tarfile
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from backupd.operations.export import export
from backupd.progress import silent
from backupd.repository import Repository
from backupd.storage.memory import MemoryStorage
from tests.streams import noise, save

FILES = {
    **{f"./many/{number:05}": noise(4_000, seed=number) for number in range(6_000)},
    "./one/a": b"first",
    "./one/b/c": noise(10_000, seed=1),
    "./zoo": noise(30_000_000, seed=2),
}


class Counted(MemoryStorage):
    """Counts the bytes that are read of it."""

    read_bytes = 0

    def get(self, key: str, *, limit_bytes: int) -> bytes:
        data = super().get(key, limit_bytes=limit_bytes)
        self.read_bytes += len(data)
        return data

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return super().get_range(key, offset, length)

    def open(self, key: str) -> BinaryIO:
        file = super().open(key)
        self.read_bytes += file.seek(0, io.SEEK_END)
        file.seek(0)
        return file


@pytest.fixture(scope="module")
def storage() -> Counted:
    """A snapshot of 54 MB that does not compress."""
    storage = Counted()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("./", "./many", "./one", "./one/b"):
            directory = tarfile.TarInfo(name)
            directory.type = tarfile.DIRTYPE
            tar.addfile(directory)
            for path in sorted(each for each in FILES if Path(each).parent == Path(name)):
                member = tarfile.TarInfo(path)
                member.size = len(FILES[path])
                if path != "./zoo":
                    tar.addfile(member, io.BytesIO(FILES[path]))
        member = tarfile.TarInfo("./zoo")
        member.size = len(FILES["./zoo"])
        tar.addfile(member, io.BytesIO(FILES["./zoo"]))
    save(Repository.init(storage), out.getvalue())
    return storage


def exported(storage: Counted, path: str | None) -> bytes:
    """What `export` writes, in a new process as it were; the storage counts from there on."""
    repository = Repository.open(storage)
    manifest = repository.find("data")
    assert manifest.bytes.stored > 50_000_000
    out = io.BytesIO()
    storage.read_bytes = 0
    export(repository, manifest, path, out, progress=silent, cancel=threading.Event())
    return out.getvalue()


def test_one_small_file_of_a_large_snapshot_takes_few_bytes(storage: Counted) -> None:
    """The sidecars, and the one slice that holds it."""
    assert exported(storage, "one/b/c") == FILES["./one/b/c"]
    assert storage.read_bytes < 1_000_000


def test_a_directory_takes_what_is_below_it(storage: Counted) -> None:
    """As a tar stream of its members alone; what follows in the snapshot is not fetched."""
    with tarfile.open(fileobj=io.BytesIO(exported(storage, "one"))) as tar:
        assert tar.getnames() == ["./one", "./one/a", "./one/b", "./one/b/c"]
        file = tar.extractfile("./one/b/c")
        assert file is not None
        assert file.read() == FILES["./one/b/c"]
    assert storage.read_bytes < 2_000_000


def test_the_whole_is_read_once(storage: Counted) -> None:
    """No slice twice, whoever reads ahead."""
    with tarfile.open(fileobj=io.BytesIO(exported(storage, None))) as tar:
        assert len(tar.getnames()) == len(FILES) + 4
    stored = sum(info.size_bytes for info in storage.list("packs/"))
    assert stored <= storage.read_bytes < stored + 1_000_000
