"""The cache: it remembers, it forgets what it must, and whatever happens to its file, nobody notices."""

from __future__ import annotations

import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import pytest

from backupd.errors import ObjectDamaged
from backupd.repository import Repository
from backupd.repository.cache import Cache
from backupd.repository.slices import Slice
from backupd.storage.memory import MemoryStorage
from tests.faults import FaultyStorage
from tests.streams import save, tar_of

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
OWNER = "host/data/20261126T120000Z-0001"
PACKS = [f"packs/{OWNER}/{number:016x}.pack" for number in range(40)]
SLICES = [Slice(pack, 7, 100 + n, f"{n:02x}{'0' * 62}") for n, pack in enumerate(PACKS)]


def used(path: Path | None, notes: list[str] | None = None) -> Cache:
    """A cache that tells its troubles."""
    return Cache(path, (notes if notes is not None else []).append)


def add(cache: Cache, *slices: Slice, owner: str = OWNER) -> None:
    """Add slices as a list of their own."""
    cache.add_list(f"slices/{owner}/{zlib.crc32(repr(slices).encode()):016x}.zst", lambda: slices)


def knows(cache: Cache, wanted: Slice) -> bool:
    """Whether the cache has that very slice."""
    return wanted in cache.slices(wanted.chunk)


def test_what_was_added_is_known_to_the_next_process(tmp_path: Path) -> None:
    """And nothing else is."""
    cache = used(tmp_path / "c")
    add(cache, *SLICES[:2])
    cache.note_read(PACKS[:1], NOW)
    cache.keep_manifests([("snapshots/a", b"{}")])
    lists = cache.lists()
    cache.close()
    again = used(tmp_path / "c")
    assert [again.slices(each.chunk) for each in SLICES[:3]] == [[SLICES[0]], [SLICES[1]], []]
    assert again.lists() == lists
    assert len(lists) == 1
    assert list(again.reads()) == [(PACKS[0], int(NOW.timestamp()))]
    assert again.manifests("snapshots/") == {"snapshots/a": b"{}"}


def test_a_chunk_may_lie_in_many_packs(tmp_path: Path) -> None:
    """As after a set has taken one of them out of use."""
    cache = used(tmp_path / "c")
    other = SLICES[0]._replace(pack=PACKS[1], offset=0)
    add(cache, SLICES[0])
    add(cache, other)
    assert sorted(cache.slices(SLICES[0].chunk)) == sorted([SLICES[0], other])


def test_a_list_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    """It is read again by the next session, not believed in part."""

    def broken() -> Iterator[Slice]:
        yield SLICES[0]
        raise ObjectDamaged("slices/x is damaged")

    cache = used(tmp_path / "c")
    with pytest.raises(ObjectDamaged):
        cache.add_list(f"slices/{OWNER}/0123456789abcdef.zst", broken)
    assert cache.lists() == set()
    assert not knows(cache, SLICES[0])


def test_lists_that_are_gone_are_forgotten_with_what_they_said(tmp_path: Path) -> None:
    """R13: those of one writer go together; nobody else's go, whose name begins alike."""
    cache = used(tmp_path / "c")
    add(cache, SLICES[0])
    add(cache, SLICES[1])
    other = [f"{OWNER}0", f"{OWNER[:-1]}2", "host/data.b/20261126T120000Z-0001"]
    kept = [SLICES[2]._replace(pack=f"packs/{owner}/{n:016x}.pack") for n, owner in enumerate(other)]
    for each, owner in zip(kept, other, strict=True):
        add(cache, each, owner=owner)
    cache.forget_lists([next(key for key in cache.lists() if key.startswith(f"slices/{OWNER}/"))])
    assert [knows(cache, each) for each in (*SLICES[:2], *kept)] == [False, False, True, True, True]
    assert len(cache.lists()) == 3


@pytest.mark.parametrize("column", ["offset", "length", "pack", "checksum"])
def test_a_slice_that_the_cache_has_wrong_is_not_believed(tmp_path: Path, column: str) -> None:
    """R4: a bit that SQLite does not miss would have a snapshot name other bytes."""
    cache = used(tmp_path / "c")
    add(cache, *SLICES[:3])
    with sqlite3.connect(tmp_path / "c") as database:
        database.execute(f"UPDATE slice SET {column} = {column} + 1 WHERE id = ?", (bytes(32),))
    database.close()
    assert cache.slices(SLICES[0].chunk) == []
    assert knows(cache, SLICES[1])


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:8192] + os.urandom(8192))


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


@pytest.mark.parametrize("damage", [_garbage, _torn, _newer])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: object) -> None:
    """Silently but for a note; and it works again."""
    cache = used(tmp_path / "c")
    add(cache, *SLICES)
    cache.keep_manifests((f"snapshots/{n:05}", b"x" * 500) for n in range(100))
    cache.close()
    damage(tmp_path / "c")  # type: ignore[operator]
    notes: list[str] = []
    cache = used(tmp_path / "c", notes)
    cache.manifests("")
    add(cache, SLICES[0])
    assert not knows(cache, SLICES[1])
    assert "made anew" in notes[0]
    cache.close()
    assert used(tmp_path / "c").lasts


def test_a_file_that_goes_bad_in_use_is_made_anew(tmp_path: Path) -> None:
    """Between two calls of one process."""
    cache = used(tmp_path / "c")
    cache.keep_manifests((f"snapshots/{n:05}", b"x" * 500) for n in range(5000))
    with (tmp_path / "c").open("r+b") as file:
        file.write(b"\xff" * 20_000)
    (tmp_path / "c-wal").write_bytes(b"")
    cache.manifests("")
    add(cache, SLICES[0])
    assert knows(cache, SLICES[0])


def test_a_file_that_another_process_holds_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of it is believed from then on."""
    monkeypatch.setattr("backupd.repository.cache._BUSY_SECONDS", 0.05)
    add(used(tmp_path / "c"), SLICES[0])
    holder = sqlite3.connect(tmp_path / "c", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    notes: list[str] = []
    cache = used(tmp_path / "c", notes)
    add(cache, SLICES[1])
    assert [knows(cache, each) for each in SLICES[:2]] == [False, True]
    assert not cache.lasts
    assert ["done without" in note for note in notes] == [True]
    holder.close()


@pytest.mark.parametrize("place", ["file/c", "proc"])
def test_a_place_that_cannot_be_written_is_done_without(tmp_path: Path, place: str) -> None:
    """A state directory that is a file, or read-only also for root."""
    (tmp_path / "file").write_text("")
    path = Path("/proc/backupd/c") if place == "proc" else tmp_path / place
    notes: list[str] = []
    cache = used(path, notes)
    add(cache, SLICES[0])
    assert knows(cache, SLICES[0])
    assert not cache.lasts
    assert len(notes) == 1


def test_a_file_that_is_readable_alone_is_done_without(tmp_path: Path) -> None:
    """As another user's is: simulated by a database that refuses to be written."""
    add(used(tmp_path / "c"), SLICES[0])
    cache = Cache(tmp_path / "c")
    cache._connection.execute("PRAGMA query_only = ON")
    add(cache, SLICES[1])
    assert [knows(cache, each) for each in SLICES[:2]] == [False, True]
    assert not cache.lasts


def _work(path: Path, number: int) -> None:
    cache = used(path)
    for each in SLICES[number * 10 : number * 10 + 10]:
        add(cache, each)
        cache.slices(each.chunk)
    if not cache.lasts:
        raise SystemExit(1)


def test_processes_share_the_file(tmp_path: Path) -> None:
    """Four at once, each in short transactions: none goes without, nothing is lost."""
    used(tmp_path / "c").close()
    context = get_context("spawn")
    workers = [context.Process(target=_work, args=(tmp_path / "c", n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    cache = used(tmp_path / "c")
    assert all(knows(cache, each) for each in SLICES)


def test_threads_share_one_cache(tmp_path: Path) -> None:
    """As the workers of a backup do."""
    cache = used(tmp_path / "c")
    threads = [threading.Thread(target=add, args=(cache, each)) for each in SLICES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(knows(cache, each) for each in SLICES)


def test_manifests_that_were_read_are_not_fetched_again(tmp_path: Path) -> None:
    """The list of snapshots costs no call for each; what was forgotten leaves the cache, too."""
    storage = FaultyStorage(MemoryStorage())
    repository = Repository.init(storage)
    saved = [save(repository, tar_of({"./x": b"1"}), volume=f"v{n}") for n in range(3)]
    assert len(Repository.open(storage, caches=tmp_path).snapshots()) == 3
    storage.calls.clear()
    repository = Repository.open(storage, caches=tmp_path)
    assert {manifest.snapshot for manifest in repository.snapshots()} == {each.snapshot for each in saved}
    assert storage.calls == ["get backupd.json", "list snapshots/", "list sessions/"]
    assert [each.volume.name for each in repository.snapshots(volume="v1")] == ["v1"]
    assert len(repository.cache.manifest_keys()) == 3
    storage.delete(saved[0].key)
    assert len(repository.snapshots()) == 2
    assert repository.cache.manifest_keys() == {each.key for each in saved[1:]}


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format":1}', b"\xff"])
def test_a_manifest_that_the_cache_has_wrong_is_read_from_the_storage(tmp_path: Path, content: bytes) -> None:
    """The cache is never the truth."""
    storage = MemoryStorage()
    saved = save(Repository.init(storage), tar_of({"./x": b"1"}))
    repository = Repository.open(storage, caches=tmp_path)
    repository.cache.keep_manifests([(saved.key, content)])
    assert repository.snapshots() == [repository.find("data")]


def test_a_damaged_manifest_is_not_remembered(tmp_path: Path) -> None:
    """It is told each time, and the others are listed."""
    storage = FaultyStorage(MemoryStorage())
    repository = Repository.init(storage)
    bad, good = save(repository, tar_of({"./x": b"1"})), save(repository, tar_of({"./x": b"1"}), volume="w")
    storage.truncate(bad.key, 30)
    for _ in range(2):
        damaged: list[object] = []
        found = Repository.open(storage, caches=tmp_path).snapshots(damaged=damaged.append)
        assert [each.snapshot for each in found] == [good.snapshot]
        assert len(damaged) == 1


def test_an_id_that_is_no_file_name_has_no_cache(tmp_path: Path) -> None:
    """The marker of a repository is not to be trusted with a path."""
    storage = MemoryStorage()
    storage.put("backupd.json", b'{"format":1,"id":"../../evil"}')
    assert not Repository.open(storage, caches=tmp_path / "caches").cache.lasts
    assert list(tmp_path.rglob("*")) == []
