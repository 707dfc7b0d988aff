"""What is known of a remote storage saves questions, and never makes a snapshot name what is gone."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from backupd.errors import BackupdError
from backupd.operations.verify import verify
from backupd.progress import silent
from backupd.repository import Repository
from backupd.repository.gc.condemned import put_set, sets
from backupd.snapshot import Manifest
from backupd.storage.base import ObjectInfo
from backupd.storage.memory import MemoryStorage
from tests.faults import Crash, FaultyStorage
from tests.streams import load, noise, save, tar_of

TREE = {"./a": b"1", "./b": noise(700_000, seed=1), "./c/d": noise(300_000, seed=2), "./e": b"text " * 9000}
STREAM = tar_of(TREE)
CHANGED = tar_of({**TREE, "./z": noise(400_000, seed=3)})
G1 = "20260101T000000Z-0001"


class LaterStorage(FaultyStorage):
    """A storage whose clock can be moved."""

    later = timedelta()

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """What there is; what was put since the clock was moved is dated by it."""
        for info in super().list(prefix):
            yield replace(info, modified=info.modified + self.later)


@pytest.fixture
def storage() -> LaterStorage:
    """A new repository's storage."""
    storage = LaterStorage(MemoryStorage())
    Repository.init(storage)
    return storage


def machine(storage: FaultyStorage, caches: Path | None) -> Repository:
    """The repository as one machine opens it for one run."""
    return Repository.open(storage, remote=True, caches=caches)


def chunk_calls(storage: FaultyStorage) -> list[str]:
    """The calls that are about one chunk."""
    return [call for call in storage.calls if re.search(r" chunks/.", call)]


def elsewhere(storage: FaultyStorage, manifest: Manifest) -> list[str]:
    """Another machine forgets the snapshot, condemns its chunks and deletes them."""
    keys = sorted(set(Repository.open(storage).reader(manifest).chunk_keys()))
    storage.delete(manifest.key)
    put_set(storage, G1, "condemned", keys)
    for key in keys:
        storage.delete(key)
    storage.flush()
    return keys


@pytest.mark.parametrize("cached", [True, False])
def test_an_unchanged_backup_asks_for_no_chunk(storage: LaterStorage, tmp_path: Path, cached: bool) -> None:
    """From the cache, or without one from the snapshot before."""
    caches = tmp_path if cached else None
    save(machine(storage, caches), STREAM)
    storage.calls.clear()
    second = save(machine(storage, caches), STREAM)
    assert second.chunks.new == 0
    assert chunk_calls(storage) == []
    assert "list chunks/" not in storage.calls


def test_a_cold_cache_is_filled_by_one_listing(storage: LaterStorage, tmp_path: Path) -> None:
    """A machine that lost its state finds what it had stored, and what others have."""
    save(machine(storage, tmp_path / "one"), STREAM, host="one")
    storage.calls.clear()
    other = save(machine(storage, tmp_path / "two"), CHANGED, host="two")
    assert other.chunks.new > 0
    assert all(call.startswith("put") for call in chunk_calls(storage))
    assert len(chunk_calls(storage)) == other.chunks.new
    assert storage.calls.count("list chunks/") == 1


def test_what_another_machine_stored_since_is_found(storage: LaterStorage, tmp_path: Path) -> None:
    """The cache never says that something is not there."""
    save(machine(storage, tmp_path / "one"), STREAM, host="one")
    save(machine(storage, tmp_path / "two"), CHANGED, host="two")
    third = save(machine(storage, tmp_path / "one"), CHANGED, host="one")
    assert (third.chunks.new, third.bytes.stored) == (0, 0)


def test_a_new_chunk_is_asked_for_once(storage: LaterStorage, tmp_path: Path) -> None:
    """However often the stream repeats it."""
    page = noise(256 * 1024, seed=9)
    save(machine(storage, tmp_path), STREAM)
    storage.calls.clear()
    save(machine(storage, tmp_path), tar_of({"./disk.img": page * 40}))
    asked = [call for call in chunk_calls(storage) if call.startswith("exists")]
    assert len(asked) < 10  # workers that meet it at once may each ask


def test_a_collection_elsewhere_leaves_no_dangling_name(storage: LaterStorage, tmp_path: Path) -> None:
    """R13: the cache knows chunks that are gone; the set that condemned them is still there."""
    gone = elsewhere(storage, save(machine(storage, tmp_path), STREAM))
    again = save(machine(storage, tmp_path), STREAM)
    assert not set(gone) & set(Repository.open(storage).reader(again).chunk_keys())
    assert load(Repository.open(storage), again) == STREAM


def test_what_a_session_forgot_stays_forgotten(storage: LaterStorage, tmp_path: Path) -> None:
    """R13: the set is seen once and then removed, as it is after 90 days."""
    elsewhere(storage, save(machine(storage, tmp_path), STREAM))
    save(machine(storage, tmp_path), tar_of({"./x": b"1"}), volume="other")
    storage.delete(f"gc/{G1}.condemned.zst")
    again = save(machine(storage, tmp_path), STREAM)
    assert load(Repository.open(storage), again) == STREAM


def test_a_machine_that_was_away_for_long_believes_nothing(storage: LaterStorage, tmp_path: Path) -> None:
    """R13: a collection came and its set went while the machine was off; the storage's clock tells."""
    elsewhere(storage, save(machine(storage, tmp_path), STREAM))
    storage.delete(f"gc/{G1}.condemned.zst")
    storage.later = timedelta(days=90)
    again = save(machine(storage, tmp_path), STREAM)
    assert again.chunks.new == again.chunks.count
    assert load(Repository.open(storage), again) == STREAM


def test_what_a_listing_shows_of_condemned_chunks_is_not_learned(
    storage: LaterStorage, tmp_path: Path
) -> None:
    """R13: they are still there when the cold cache is filled, and gone afterwards."""
    first = save(machine(storage, None), STREAM)
    keys = sorted(set(Repository.open(storage).reader(first).chunk_keys()))
    put_set(storage, G1, "condemned", keys)
    save(machine(storage, tmp_path), tar_of({"./x": b"1"}), volume="other")
    storage.delete(first.key)
    for key in keys:
        storage.delete(key)
    storage.delete(f"gc/{G1}.condemned.zst")
    again = save(machine(storage, tmp_path), STREAM)
    assert load(Repository.open(storage), again) == STREAM


def test_damage_that_was_marked_is_stored_again_by_who_knows_the_chunk(
    storage: LaterStorage, tmp_path: Path
) -> None:
    """R4: the cache and the parent both say that it is there; the mark says otherwise."""
    first = save(machine(storage, tmp_path), STREAM)
    key = next(Repository.open(storage).reader(first).chunk_keys())
    storage.inner.delete(key)
    verify(Repository.open(storage), found=lambda _: None, progress=silent, cancel=threading.Event())
    assert len(sets(storage)) == 1
    assert save(machine(storage, tmp_path), STREAM).chunks.new == 1
    assert load(Repository.open(storage), first) == STREAM


def test_a_parent_that_is_damaged_tells_nothing(storage: LaterStorage) -> None:
    """The storage is asked instead."""
    first = save(machine(storage, None), STREAM)
    for key in (first.chunks_key, first.key):
        storage.truncate(key, 30)
        assert save(machine(storage, None), STREAM, volume="data").chunks.new == 0


@pytest.mark.parametrize("survives", [True, False])
def test_a_cache_survives_every_crash_without_a_lie(tmp_path: Path, survives: bool) -> None:
    """R3: crash before any call, lose what was not durable; what is committed next restores completely."""
    calls = _calls_of_a_backup(tmp_path / "count")
    for number in range(calls):
        caches = tmp_path / str(number)
        inner = MemoryStorage()
        save(Repository.init(inner), tar_of({"./x": b"1"}))
        with contextlib.suppress(Crash, BackupdError):
            save(machine(FaultyStorage(inner, crash_before=number), caches), STREAM)
        inner.crash(lambda key: survives)
        again = save(machine(FaultyStorage(inner), caches), STREAM)
        assert load(Repository.open(inner), again) == STREAM


def _calls_of_a_backup(caches: Path) -> int:
    storage = FaultyStorage(MemoryStorage())
    save(Repository.init(storage), tar_of({"./x": b"1"}))
    storage.calls.clear()
    save(machine(storage, caches), STREAM)
    return len(storage.calls)
