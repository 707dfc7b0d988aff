"""The cache: it remembers, it forgets what it must, and whatever happens to its file, nobody notices."""

from __future__ import annotations

import os
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest

from backupd.repository import Repository
from backupd.repository.cache import TRUSTED_FOR, Cache
from backupd.storage.memory import MemoryStorage
from tests.faults import FaultyStorage
from tests.streams import save, tar_of

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
KEYS = [f"chunks/{n:02x}/{n:02x}{'0' * 62}.zst" for n in range(40)]


def used(path: Path | None, notes: list[str] | None = None) -> Cache:
    """A cache in a session that has begun."""
    cache = Cache(path, (notes if notes is not None else []).append)
    cache.sync((), NOW)
    return cache


def test_what_was_added_is_known_to_the_next_process(tmp_path: Path) -> None:
    """And nothing else is."""
    cache = used(tmp_path / "c")
    cache.add(KEYS[:2])
    cache.note_read(KEYS[:1], NOW)
    cache.keep_manifests([("snapshots/a", b"{}")])
    cache.establish("snapshot", "s1")
    cache.close()
    again = used(tmp_path / "c")
    assert [again.knows(key) for key in KEYS[:3]] == [True, True, False]
    assert list(again.reads()) == [(KEYS[0], int(NOW.timestamp()))]
    assert again.manifests("snapshots/") == {"snapshots/a": b"{}"}
    assert again.has("snapshot", "s1")
    assert not again.has("snapshot", "s2")


def test_what_was_learned_is_remembered_only_once_confirmed(tmp_path: Path) -> None:
    """R3: a session that came to nothing may have stored nothing durable."""
    cache = used(tmp_path / "c")
    cache.learn(KEYS[0])
    assert cache.knows(KEYS[0])
    cache.close()
    cache = used(tmp_path / "c")
    assert not cache.knows(KEYS[0])
    cache.learn(KEYS[1])
    cache.confirm()
    cache.close()
    assert used(tmp_path / "c").knows(KEYS[1])


def test_a_session_forgets_what_counts_as_absent(tmp_path: Path) -> None:
    """R13: also what was learned, and when it was read."""
    cache = used(tmp_path / "c")
    cache.add(KEYS[:3])
    cache.note_read(KEYS[:3], NOW)
    cache.sync(KEYS[:2], NOW)
    assert [cache.knows(key) for key in KEYS[:3]] == [False, False, True]
    assert [key for key, _ in cache.reads()] == KEYS[2:3]


@pytest.mark.parametrize(("days", "known"), [(79, True), (81, False), (-81, False)])
def test_a_cache_that_was_away_too_long_forgets_all(tmp_path: Path, days: int, known: bool) -> None:
    """R13, S1: sets under gc/ live for 90 days; who was away longer may have missed one."""
    assert timedelta(days=80) == TRUSTED_FOR
    cache = used(tmp_path / "c")
    cache.add(KEYS)
    cache.establish("listed", "")
    cache.sync((), NOW + timedelta(days=days))
    assert (cache.knows(KEYS[0]), cache.has("listed", "")) == (known, known)


def test_a_cache_forgets_all_where_the_time_is_not_known(tmp_path: Path) -> None:
    """R13: this machine's clock does not stand in for the storage's (S1)."""
    cache = used(tmp_path / "c")
    cache.add(KEYS)
    cache.sync((), None)
    assert not cache.knows(KEYS[0])


def test_a_cache_that_was_never_in_a_session_forgets_all(tmp_path: Path) -> None:
    """Nobody can say how old it is."""
    cache = Cache(tmp_path / "c")
    cache.add(KEYS)
    cache.sync((), NOW)
    assert not cache.knows(KEYS[0])


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
    cache.add(KEYS)
    cache.keep_manifests((f"snapshots/{n:05}", b"x" * 500) for n in range(100))
    cache.close()
    damage(tmp_path / "c")  # type: ignore[operator]
    notes: list[str] = []
    cache = used(tmp_path / "c", notes)
    cache.manifests("")
    cache.add(KEYS[:1])
    assert not cache.knows(KEYS[1])
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
    cache.add(KEYS[:1])
    assert cache.knows(KEYS[0])


def test_a_file_that_another_process_holds_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of it is believed: what could not be forgotten in it may be gone."""
    monkeypatch.setattr("backupd.repository.cache._BUSY_SECONDS", 0.05)
    used(tmp_path / "c").add(KEYS[:1])
    holder = sqlite3.connect(tmp_path / "c", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    notes: list[str] = []
    cache = used(tmp_path / "c", notes)
    assert not cache.knows(KEYS[0])
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
    cache.add(KEYS[:1])
    assert cache.knows(KEYS[0])
    assert not cache.lasts
    assert len(notes) == 1


def test_a_file_that_is_readable_alone_is_done_without(tmp_path: Path) -> None:
    """As another user's is: simulated by a database that refuses to be written."""
    used(tmp_path / "c").add(KEYS[:1])
    cache = Cache(tmp_path / "c")
    cache._connection.execute("PRAGMA query_only = ON")
    cache.sync(KEYS[:1], NOW)
    assert not cache.knows(KEYS[0])
    assert not cache.lasts


def _work(path: Path, number: int) -> None:
    cache = used(path)
    for key in KEYS[number * 10 : number * 10 + 10]:
        cache.learn(key)
        cache.confirm()
        cache.knows(key)
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
    assert all(cache.knows(key) for key in KEYS)


def test_threads_share_one_cache(tmp_path: Path) -> None:
    """As the workers of a backup do."""
    cache = used(tmp_path / "c")
    threads = [threading.Thread(target=cache.learn, args=(key,)) for key in KEYS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(cache.knows(key) for key in KEYS)


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
