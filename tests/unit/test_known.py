"""What slice lists say saves storing twice, and never makes a snapshot name what is gone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from backupd.errors import BackupdError, ObjectDamaged
from backupd.operations.verify import verify
from backupd.progress import silent
from backupd.repository import Repository, packer
from backupd.repository.gc.sets import put_set, sets
from backupd.repository.slices import Slice
from backupd.snapshot import Manifest
from backupd.storage.memory import MemoryStorage
from tests.faults import Crash, FaultyStorage
from tests.streams import BytesSource, load, noise, save, tar_of

TREE = {"./a": b"1", "./b": noise(700_000, seed=1), "./c/d": noise(300_000, seed=2), "./e": b"text " * 9000}
STREAM = tar_of(TREE)
CHANGED = tar_of({**TREE, "./z": noise(400_000, seed=3)})
G1 = "20260101T000000Z-0001"


@pytest.fixture
def storage() -> FaultyStorage:
    """A new repository's storage."""
    storage = FaultyStorage(MemoryStorage())
    Repository.init(storage)
    return storage


def machine(storage: FaultyStorage, caches: Path | None) -> Repository:
    """The repository as one machine opens it for one run."""
    return Repository.open(storage, caches=caches)


def packs_of(storage: FaultyStorage, manifest: Manifest) -> list[str]:
    """The packs that a snapshot names."""
    return sorted({each.pack for each in Repository.open(storage).reader(manifest).slices()})


def elsewhere(storage: FaultyStorage, manifest: Manifest) -> list[str]:
    """Another machine forgets the snapshot, condemns its packs and deletes them."""
    packs = packs_of(storage, manifest)
    storage.delete(manifest.key)
    put_set(storage, G1, "condemned", packs)
    for key in packs:
        storage.delete(key)
    storage.flush()
    return packs


@pytest.mark.parametrize("cached", [True, False])
def test_an_unchanged_backup_puts_no_pack(storage: FaultyStorage, tmp_path: Path, cached: bool) -> None:
    """With a cache it reads no slice list either: what it said is remembered."""
    caches = tmp_path if cached else None
    save(machine(storage, caches), STREAM)
    storage.calls.clear()
    second = save(machine(storage, caches), STREAM)
    assert (second.chunks.new, second.bytes.stored) == (0, 0)
    calls = [call.split(" ", 1) for call in storage.calls if " " in call]
    put = [key for name, key in calls if name.startswith("put")]
    assert not [key for key in put if key.startswith(("packs/", "slices/"))]
    assert len([key for name, key in calls if name == "get" and key.startswith("slices/")]) == (not cached)
    assert [key for name, key in calls if name == "exists" and key.startswith("packs/")] == []


def test_a_machine_that_lost_its_state_finds_what_is_stored(storage: FaultyStorage, tmp_path: Path) -> None:
    """Its own, and what others have stored."""
    save(machine(storage, tmp_path / "one"), STREAM, host="one")
    other = save(machine(storage, tmp_path / "two"), CHANGED, host="two")
    assert 0 < other.bytes.new < 500_000


def test_what_another_machine_stored_since_is_found(storage: FaultyStorage, tmp_path: Path) -> None:
    """The cache never says that something is not there."""
    save(machine(storage, tmp_path / "one"), STREAM, host="one")
    save(machine(storage, tmp_path / "two"), CHANGED, host="two")
    third = save(machine(storage, tmp_path / "one"), CHANGED, host="one")
    assert (third.chunks.new, third.bytes.stored) == (0, 0)


def test_a_collection_elsewhere_leaves_no_dangling_name(storage: FaultyStorage, tmp_path: Path) -> None:
    """R13: the cache knows chunks that are gone; the set that condemned their packs is still there."""
    gone = elsewhere(storage, save(machine(storage, tmp_path), STREAM))
    again = save(machine(storage, tmp_path), STREAM)
    assert not set(gone) & set(packs_of(storage, again))
    assert load(Repository.open(storage), again) == STREAM


@pytest.mark.parametrize("cached", [True, False])
def test_a_collection_whose_sets_are_gone_leaves_no_dangling_name(
    storage: FaultyStorage, tmp_path: Path, cached: bool
) -> None:
    """R13: slice lists and cache know of packs that nobody has, and nothing under gc/ says so."""
    elsewhere(storage, save(machine(storage, tmp_path), STREAM))
    storage.delete(f"gc/{G1}.condemned.zst")
    again = save(machine(storage, tmp_path if cached else None), STREAM)
    assert again.chunks.new == again.chunks.count
    assert load(Repository.open(storage), again) == STREAM


@pytest.mark.parametrize("kind", ["condemned", "damaged", "sparse"])
def test_what_sets_name_is_stored_again(storage: FaultyStorage, tmp_path: Path, kind: str) -> None:
    """It is there, and the cache knows it; a writer must not name it."""
    first = save(machine(storage, tmp_path), STREAM)
    put_set(storage, G1, kind, packs_of(storage, first))  # type: ignore[arg-type]
    again = save(machine(storage, tmp_path), STREAM)
    assert again.chunks.new == again.chunks.count
    assert not set(packs_of(storage, first)) & set(packs_of(storage, again))
    assert save(machine(storage, tmp_path), STREAM).chunks.new == 0


def test_a_pack_that_was_cut_short_is_stored_again(storage: FaultyStorage, tmp_path: Path) -> None:
    """R4: what its listing is too short for; the rest of it is named as ever."""
    first = save(machine(storage, tmp_path), STREAM)
    (pack,) = packs_of(storage, first)
    content = storage.get(pack, limit_bytes=10**7)
    storage.delete(pack)
    storage.put(pack, content[:-1])
    storage.flush()
    again = save(machine(storage, tmp_path), STREAM)
    assert again.chunks.new == 1
    for manifest in (first, again):
        assert load(Repository.open(storage), manifest) == STREAM


def test_slice_lists_that_were_removed_are_forgotten(storage: FaultyStorage, tmp_path: Path) -> None:
    """As those of a snapshot are of which no pack is left."""
    save(machine(storage, tmp_path), STREAM)
    for info in list(storage.list("slices/")):
        storage.delete(info.key)
    assert save(machine(storage, tmp_path), STREAM).chunks.new > 0


@pytest.mark.parametrize("how", ["flipped", "cut", "another's"])
def test_a_damaged_slice_list_tells_nothing(storage: FaultyStorage, how: str) -> None:
    """R4: what it names is stored again, and no snapshot names what it made up."""
    save(machine(storage, None), STREAM)
    other = save(machine(storage, None), tar_of({"./x": noise(500_000, seed=7)}), volume="other")
    lists = [info.key for info in storage.list("slices/")]
    if how == "another's":
        content = storage.get(lists[1], limit_bytes=10**6)
        storage.delete(lists[0])
        storage.put(lists[0], content)
        storage.flush()
    elif how == "flipped":
        storage.flip_bit(lists[0], 400)
    else:
        storage.truncate(lists[0], 40)
    again = save(machine(storage, None), STREAM)
    assert again.chunks.new == again.chunks.count
    assert load(Repository.open(storage), again) == STREAM
    assert load(Repository.open(storage), other)


def test_damage_that_was_marked_is_stored_again_by_who_knows_the_chunk(
    storage: FaultyStorage, tmp_path: Path
) -> None:
    """R4: the cache says that it is there; the mark says otherwise. The older snapshot heals with it."""
    first = save(machine(storage, tmp_path), STREAM)
    storage.flip_bit(packs_of(storage, first)[0], 8 * 300_000)
    with pytest.raises(ObjectDamaged):
        load(Repository.open(storage), first)
    verify(
        Repository.open(storage), found=lambda _: None, progress=silent, cancel=threading.Event(), share=1.0
    )
    assert len(sets(storage)) == 1
    assert save(machine(storage, tmp_path), STREAM).chunks.new > 0
    assert load(Repository.open(storage), first) == STREAM


def test_what_a_run_that_died_has_stored_is_used_by_the_next(
    storage: FaultyStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first backup of days is not begun anew: slice lists come while it goes on, after what they name."""
    monkeypatch.setattr(packer, "LIST_PACKS", 2)
    stream = tar_of({f"./{n}": noise(4_500_000, seed=n) for n in range(8)})
    dying = FaultyStorage(
        storage.inner, crash_before=next(n for n, call in enumerate(_calls(stream)) if "snapshots/" in call)
    )
    with contextlib.suppress(Crash):
        save(machine(dying, None), stream)
    storage.inner.crash()  # type: ignore[attr-defined]
    again = save(machine(storage, tmp_path), stream)
    assert again.bytes.new < len(stream) // 2
    assert load(Repository.open(storage), again) == stream


def _calls(stream: bytes) -> list[str]:
    storage = FaultyStorage(MemoryStorage())
    Repository.init(storage)
    storage.calls.clear()
    save(machine(storage, None), stream)
    return storage.calls


def test_a_slice_list_is_put_after_its_packs_are_durable(storage: FaultyStorage) -> None:
    """Whoever reads it may name what it names at once."""

    class Watched(FaultyStorage):
        def put_file(self, key: str, file: object) -> bool:
            if key.startswith("slices/"):
                assert self.calls[-1] == "flush"
            return super().put_file(key, file)  # type: ignore[arg-type]

    save(machine(Watched(storage.inner), None), tar_of({"./x": noise(9_000_000)}))
    assert len(list(storage.list("slices/"))) == 1


def test_a_cache_that_is_lost_in_the_middle_is_learned_anew(
    storage: FaultyStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full, a file that goes bad: not all of a volume is stored again for that."""
    monkeypatch.setattr(packer, "LIST_PACKS", 1)
    old = {f"./o{number:02}": noise(2_000_000, seed=number) for number in range(20)}
    save(machine(storage, tmp_path), tar_of(old))
    repository = machine(storage, tmp_path)
    stream = tar_of({**{f"./a{number}": noise(4_500_000, seed=100 + number) for number in range(4)}, **old})
    cache, add_list = repository.cache, repository.cache.add_list

    def lose(key: str, slices: Callable[[], Iterable[Slice]]) -> None:
        if not cache.losses:
            cache._connection.execute("PRAGMA query_only = ON")
        add_list(key, slices)

    monkeypatch.setattr(cache, "add_list", lose)
    saved = save(repository, stream)
    assert cache.losses == 1
    assert saved.bytes.new < 30_000_000
    assert load(Repository.open(storage), saved) == stream


def test_two_writers_at_once_do_not_name_what_is_not_durable(storage: FaultyStorage, tmp_path: Path) -> None:
    """One cache, one process: what a session has not listed yet is its own."""
    repository = machine(storage, tmp_path)
    with repository.begin(host="h", volume="one", snapshot="20261126T120000Z-0001") as writer:
        writer.store(BytesSource(STREAM), at_end=lambda: None, progress=silent, cancel=threading.Event())
        known = repository.cache.slices(next(iter(_own(storage))).chunk)
        assert known
        assert all(storage.exists(each.pack) for each in known)


def _own(storage: FaultyStorage) -> list[Slice]:
    repository = Repository.open(storage)
    manifest = save(repository, STREAM, volume="twin")
    return list(repository.reader(manifest).slices())


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
