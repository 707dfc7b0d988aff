"""Verify: damage is named, told apart from a storage that answers badly, and mended by the next backup."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from backupd.errors import Interrupted, SnapshotNotFound, StorageError
from backupd.operations.verify import Verified, verify
from backupd.progress import Tally, silent
from backupd.repository import Repository, packer
from backupd.repository.gc.sets import put_set, sets
from backupd.repository.slices import Slice
from backupd.repository.verification import finding
from backupd.repository.verification.finding import Finding
from backupd.snapshot import Manifest
from backupd.storage.local import LocalStorage
from backupd.storage.memory import MemoryStorage
from tests.faults import FaultyStorage
from tests.streams import load, noise, save, tar_of

TREE = {"./a": b"1", "./b": noise(700_000, seed=1), "./c/d": noise(300_000, seed=2), "./e": b"text " * 9000}
STREAM = tar_of(TREE)
CHUNKS = 6


@pytest.fixture
def storage() -> FaultyStorage:
    """A storage that counts and fails as it is told."""
    return FaultyStorage(MemoryStorage())


@pytest.fixture
def repository(storage: FaultyStorage) -> Repository:
    """A new repository on it."""
    return Repository.init(storage)


def check(repository: Repository, **options: Any) -> tuple[Verified, list[Finding]]:
    """Verify, and what was found."""
    found: list[Finding] = []
    given = {"progress": silent, "cancel": threading.Event(), **options}
    return verify(repository, found=found.append, **given), found


def slice_of(repository: Repository, manifest: Manifest, path: bytes) -> Slice:
    """Where the last chunk lies that holds a member."""
    entry = next(entry for entry in repository.reader(manifest).members() if entry.path == path)
    return list(repository.reader(manifest).slices())[entry.last]


def flip(storage: FaultyStorage, found: Slice) -> None:
    """Let a bit of that chunk be wrong."""
    storage.flip_bit(found.pack, 8 * (found.offset + found.length // 2))


def replace_in(storage: FaultyStorage, pack: str, content: bytes) -> None:
    """Let a pack hold other bytes, as no storage should."""
    storage.inner.delete(pack)
    storage.inner.put(pack, content)
    storage.inner.flush()


def test_a_whole_repository_has_no_findings(repository: Repository, storage: FaultyStorage) -> None:
    """All levels; the cheap ones list the packs once and ask for none."""
    save(repository, STREAM)
    save(repository, STREAM, volume="other")
    storage.calls.clear()
    verified, found = check(repository)
    counts = verified.counts
    assert (found, counts.snapshots, counts.packs, counts.chunks) == ([], 2, 1, CHUNKS)
    assert [call for call in storage.calls if "packs/" in call] == ["list packs/"]
    verified, found = check(repository, share=1.0)
    assert (found, verified.counts.read_packs, verified.marked) == ([], 1, 0)


def test_a_pack_of_many_snapshots_is_read_once(repository: Repository, storage: FaultyStorage) -> None:
    """Each distinct pack, however often it is named."""
    for volume in ("a", "b", "c"):
        save(repository, STREAM, volume=volume)
        save(repository, tar_of({"./own": noise(40_000, seed=ord(volume))}), volume=volume)
    storage.calls.clear()
    check(repository, share=1.0)
    read = [call for call in storage.calls if call.startswith("get packs/")]
    assert len(read) == len(set(read)) == 4
    assert not [call for call in storage.calls if call.startswith("get_range")]


@pytest.mark.parametrize("damage", ["flip", "swap", "bomb", "truncate", "hide", "empty"])
def test_damage_is_found_with_the_files_it_hits(
    repository: Repository, storage: FaultyStorage, damage: str
) -> None:
    """R4, I15: whatever is wrong; what is whole in a damaged pack is not accused, nor are other snapshots."""
    whole = save(repository, tar_of({"./x": b"1"}), volume="whole")
    manifest = save(repository, STREAM)
    hit = slice_of(repository, manifest, b"./c/d")
    content = storage.inner.get(hit.pack, limit_bytes=10**7)
    if damage == "flip":
        flip(storage, hit)
    elif damage == "truncate":
        replace_in(storage, hit.pack, content[: hit.offset + 5000])
    elif damage in ("hide", "empty"):
        storage.hide(hit.pack) if damage == "hide" else replace_in(storage, hit.pack, b"")
    else:
        other = zstandard.compress({"swap": b"another", "bomb": bytes(10**8)}[damage]).ljust(hit.length, b"x")
        replace_in(storage, hit.pack, content[: hit.offset] + other + content[hit.end :])
    verified, found = check(repository, share=1.0)
    assert [(each.volume, each.snapshot, each.object) for each in found] == [
        ("data", manifest.snapshot, hit.pack)
    ]
    every = (b"./a", b"./b", b"./c/d", b"./e")
    assert found[0].paths == {"hide": every, "empty": every, "truncate": every[2:]}.get(damage, every[2:3])
    assert hit.pack in found[0].problem
    assert (verified.counts.snapshots, verified.marked) == (2, 1)
    assert load(repository, whole)


def test_what_is_whole_in_a_damaged_pack_is_read_as_before(
    repository: Repository, storage: FaultyStorage
) -> None:
    """R4: a snapshot that needs nothing else of it restores, marked or not."""
    manifest = save(repository, STREAM)
    whole = save(repository, tar_of({"./b": TREE["./b"]}), volume="whole")
    assert {each.pack for each in repository.reader(whole).slices()} > {
        slice_of(repository, manifest, b"./b").pack
    }
    flip(storage, slice_of(repository, manifest, b"./c/d"))
    _, found = check(repository, share=1.0)
    assert [each.volume for each in found] == ["data"]
    assert load(repository, whole) == tar_of({"./b": TREE["./b"]})


@pytest.mark.parametrize("damage", ["hide", "truncate"])
def test_a_missing_or_short_pack_is_found_without_reading(
    repository: Repository, storage: FaultyStorage, damage: str
) -> None:
    """R4: the cheap levels see what the listing shows; only the suspect is looked at."""
    save(repository, tar_of({"./x": b"1"}), volume="whole")
    hit = slice_of(repository, save(repository, STREAM), b"./c/d")
    if damage == "hide":
        storage.hide(hit.pack)
    else:
        content = storage.inner.get(hit.pack, limit_bytes=10**7)
        replace_in(storage, hit.pack, content[: hit.offset + 5000])
    storage.calls.clear()
    _, found = check(repository)
    assert [each.object for each in found] == [hit.pack]
    assert b"./c/d" in found[0].paths
    assert {call for call in storage.calls if call.startswith("get packs/")} == {f"get {hit.pack}"}


@pytest.mark.parametrize("name", ["key", "chunks_key", "index_key"])
@pytest.mark.parametrize("damage", ["flip", "hide", "other"])
def test_a_damaged_manifest_or_sidecar_is_a_finding(
    repository: Repository, storage: FaultyStorage, name: str, damage: str
) -> None:
    """R4, I16: it is named, and the snapshots beside it are checked all the same."""
    other = save(repository, tar_of({"./x": b"1"}), volume="other")
    bad = save(repository, STREAM)
    key = getattr(bad, name)
    hit = slice_of(repository, other, b"./x")
    flip(storage, hit)
    if damage == "flip":
        storage.flip_bit(key, 6)
    elif damage == "hide":
        storage.hide(key)
    else:
        storage.inner.delete(key)
        storage.inner.put(key, storage.inner.get(getattr(other, name), limit_bytes=10**6))
        storage.inner.flush()
    _, found = check(repository, share=1.0)
    accused = {(each.volume, each.object) for each in found}
    gone = name == "key" and damage == "hide"  # without a manifest there is no snapshot
    assert accused == {("other", hit.pack)} | (set() if gone else {("data", key)})


def test_a_manifest_of_a_newer_version_is_a_finding(repository: Repository) -> None:
    """I16: what cannot be read cannot be called whole."""
    manifest = save(repository, STREAM)
    key = f"snapshots/host/data/{manifest.snapshot[:-4]}0000.json"
    repository.storage.put(key, b'{"format":2}')
    repository.storage.flush()
    verified, found = check(repository)
    assert [each.object for each in found] == [key]
    assert verified.counts.snapshots == 1


@pytest.mark.parametrize("field", ["count", "members", "content"])
def test_sums_of_the_manifest_are_held_against_its_sidecars(repository: Repository, field: str) -> None:
    """A manifest that promises other than what its lists hold."""
    manifest = save(repository, STREAM)
    changed = {
        "count": replace(manifest, chunks=replace(manifest.chunks, count=7)),
        "members": replace(manifest, members={"file": 5}),
        "content": replace(manifest, bytes=replace(manifest.bytes, content=1)),
    }[field]
    repository.storage.delete(manifest.key)
    repository.storage.put(manifest.key, changed.encode())
    repository.storage.flush()
    _, found = check(repository)
    assert [each.object for each in found] == [
        manifest.chunks_key if field == "count" else manifest.index_key
    ]


def test_a_truncated_listing_marks_nothing_as_missing(repository: Repository, storage: FaultyStorage) -> None:
    """R9: packs that are there though the storage does not list them are counted, not accused."""
    for number in range(4):
        save(repository, tar_of({"./x": noise(40_000, seed=number)}))
    short = _ShortListing(storage, keep=1)
    verified, found = check(Repository.open(short))
    assert (found, verified.counts.unlisted, verified.marked) == ([], 3, 0)
    assert sets(storage) == []


def test_a_read_that_fails_once_is_no_damage(repository: Repository, storage: FaultyStorage) -> None:
    """R6: looked at twice before it counts."""
    hit = slice_of(repository, save(repository, STREAM), b"./b")
    failures = [StorageError("connection reset"), StorageError("connection reset")]
    flaky = FaultyStorage(
        storage, fail_when=lambda call: failures.pop() if hit.pack in call and failures else None
    )
    verified, found = check(Repository.open(flaky), share=1.0)
    assert (found, verified.marked, failures) == ([], 0, [])


def test_what_a_disk_cannot_read_is_damage(repository: Repository, storage: FaultyStorage) -> None:
    """R4: the storage answers, this part of this object it cannot give back."""
    hit = slice_of(repository, save(repository, STREAM), b"./b")
    verified, found = check(Repository.open(_BadSector(storage, hit)), share=1.0)
    assert [(each.object, each.problem, each.paths) for each in found] == [
        (hit.pack, "input/output error", (b"./b",))
    ]
    assert verified.marked == 1


def test_a_storage_that_is_away_is_no_damage(repository: Repository, storage: FaultyStorage) -> None:
    """R6: the run fails, and nothing is marked."""
    save(repository, STREAM)
    away = threading.Event()

    def fail(call: str) -> StorageError | None:
        if call.startswith("get packs/"):
            away.set()
        return StorageError("no route to host") if away.is_set() else None

    with pytest.raises(StorageError, match="no route"):
        check(Repository.open(FaultyStorage(storage, fail_when=fail)), share=1.0)
    assert sets(storage) == []


def test_a_storage_that_lists_and_gives_nothing_is_no_damage(
    repository: Repository, storage: FaultyStorage
) -> None:
    """R10: rights to read that ended; each pack would seem damaged."""
    save(repository, STREAM)
    packs = threading.Event()

    def fail(call: str) -> StorageError | None:
        if call.startswith("get packs/"):
            packs.set()
        return StorageError("forbidden") if packs.is_set() and call.startswith("get") else None

    with pytest.raises(StorageError, match="forbidden"):
        check(Repository.open(FaultyStorage(storage, fail_when=fail)), share=1.0)
    assert sets(storage) == []


def test_the_next_backup_mends_what_was_found(tmp_path: Path) -> None:
    """R4: flip a bit, remove a pack; found, stored again, healed; the old snapshots are whole once more."""
    with LocalStorage.create(tmp_path / "r") as storage:
        repository = Repository.init(storage)
        old, lost = save(repository, STREAM), save(repository, tar_of({"./x": b"1"}), volume="lost")
        hit, removed = slice_of(repository, old, b"./b"), slice_of(repository, lost, b"./x")
        file = tmp_path / "r" / hit.pack
        damaged = bytearray(file.read_bytes())
        damaged[hit.offset + 1000] ^= 1
        file.write_bytes(damaged)
        (tmp_path / "r" / removed.pack).unlink()

        verified, found = check(repository, share=1.0)
        assert {each.object for each in found} == {hit.pack, removed.pack}
        assert verified.marked == 2
        verified, found = check(repository)
        assert {each.object for each in found} == {hit.pack, removed.pack}  # known by now, without reading
        assert verified.marked == 0

        new = save(repository, STREAM)
        assert new.chunks.new == new.chunks.count
        save(repository, tar_of({"./x": b"1"}), volume="lost")
        for share in (0.0, 1.0):
            verified, found = check(Repository.open(storage), share=share)
            assert (found, verified.marked) == ([], 0)
        repository.reader(old).check_present()
        assert load(repository, old) == load(repository, new) == STREAM
        assert load(repository, lost) == tar_of({"./x": b"1"})
        assert file.read_bytes() == damaged


def test_what_rots_again_is_mended_again(repository: Repository, storage: FaultyStorage) -> None:
    """The copy in the new pack is marked in turn, also where only the old snapshot is left to need it."""
    old = save(repository, STREAM)
    hit = slice_of(repository, old, b"./b")
    flip(storage, hit)
    check(repository, share=1.0)
    new = save(repository, STREAM)
    copy = slice_of(repository, new, b"./b")
    repository.storage.delete(new.key)
    flip(storage, copy)
    verified, found = check(repository, share=1.0)
    assert ([each.object for each in found], verified.marked) == ([hit.pack], 1)
    third = save(repository, STREAM)
    assert slice_of(repository, third, b"./b").pack not in (hit.pack, copy.pack)
    assert check(repository, share=1.0)[1] == []
    assert load(repository, old) == STREAM


def test_damage_with_a_healthy_twin_is_marked_and_no_finding(
    repository: Repository, storage: FaultyStorage
) -> None:
    """Collectors keep the twin only where the damaged pack is marked."""
    old = save(repository, STREAM)
    hit = slice_of(repository, old, b"./b")
    put_set(storage, "20260101T000000Z-0001", "condemned", [hit.pack])
    save(repository, STREAM)
    flip(storage, hit)
    verified, found = check(repository, share=1.0)
    assert (found, verified.marked) == ([], 1)
    assert load(repository, old) == STREAM


def test_a_twin_that_was_deleted_is_not_damage(repository: Repository, storage: FaultyStorage) -> None:
    """Slice lists may name packs that collectors have deleted; there is nothing to mark."""
    old = save(repository, STREAM)
    put_set(storage, "20260101T000000Z-0001", "damaged", [slice_of(repository, old, b"./b").pack])
    twin = save(repository, STREAM)
    gone = slice_of(repository, twin, b"./b").pack
    storage.inner.delete(twin.key)
    storage.inner.delete(gone)
    flip(storage, slice_of(repository, old, b"./b"))
    verified, found = check(repository, share=1.0)
    assert ([each.volume for each in found], verified.marked) == (["data"], 0)


def test_a_pack_brought_back_is_whole_again(repository: Repository, storage: FaultyStorage) -> None:
    """A mark is a suspicion for the next check, not a verdict."""
    pack = slice_of(repository, save(repository, STREAM), b"./b").pack
    content = storage.inner.get(pack, limit_bytes=10**7)
    storage.inner.delete(pack)
    assert check(repository)[1]
    replace_in(storage, pack, content)
    assert check(repository)[1] == []


def test_who_may_not_write_still_looks(repository: Repository, storage: FaultyStorage) -> None:
    """A read-only copy is checked; that nothing could be marked is told."""
    hit = slice_of(repository, save(repository, STREAM), b"./b")
    flip(storage, hit)
    locked = FaultyStorage(
        storage, fail_when=lambda call: StorageError("read-only") if call.startswith("put") else None
    )
    verified, found = check(Repository.open(locked), share=1.0)
    assert [each.object for each in found] == [hit.pack]
    assert (verified.marked, str(verified.unmarked)) == (0, "read-only")


def test_a_damaged_set_of_marks_is_a_finding_and_hides_none(
    repository: Repository, storage: FaultyStorage
) -> None:
    """R4: under gc/ too."""
    pack = slice_of(repository, save(repository, STREAM), b"./b").pack
    storage.put("gc/20260101T000000Z-0001.damaged.zst", b"no zstd")
    storage.flush()
    storage.hide(pack)
    verified, found = check(repository)
    assert [each.object for each in found] == [None, pack]
    assert "gc/20260101T000000Z-0001.damaged.zst" in found[0].problem
    assert verified.marked == 0


def test_a_snapshot_that_is_forgotten_meanwhile_is_no_finding(
    repository: Repository, storage: FaultyStorage
) -> None:
    """Retention and a collection go on while verify looks."""
    manifest = save(repository, STREAM)

    def forget(call: str) -> None:
        if call == "list packs/":
            for key in (manifest.key, *(each.pack for each in repository.reader(manifest).slices())):
                storage.delete(key)

    _, found = check(Repository.open(FaultyStorage(storage, fail_when=forget)))
    assert found == []


def test_only_what_is_asked_for_is_checked(repository: Repository, storage: FaultyStorage) -> None:
    """By host and by volume; a misspelt one is an error (I20)."""
    bad = save(repository, STREAM, volume="bad")
    save(repository, tar_of({"./x": b"1"}), volume="good")
    save(repository, tar_of({"./x": b"1"}), host="db2", volume="good")
    storage.hide(slice_of(repository, bad, b"./b").pack)
    assert check(repository, volumes=["good"])[0].counts.snapshots == 2
    assert check(repository, volumes=["good"], host="db2")[0].counts.snapshots == 1
    assert check(repository, volumes=["good"])[1] == []
    assert len(check(repository, volumes=["good", "bad"])[1]) == 1
    for wrong in ({"volumes": ["goood"]}, {"host": "db3"}, {"host": "db2", "volumes": ["bad"]}):
        with pytest.raises(SnapshotNotFound):
            check(repository, **wrong)


def _many_packs(repository: Repository) -> set[str]:
    """Sixty packs of one snapshot each."""
    for number in range(60):
        save(repository, tar_of({"./x": noise(30_000, seed=number)}), volume=f"v{number}")
    return {info.key for info in repository.storage.list("packs/")}


def test_twenty_runs_of_five_percent_read_everything(tmp_path: Path) -> None:
    """What was read is remembered, and what was read longest ago comes first."""
    storage = FaultyStorage(MemoryStorage())
    everything = _many_packs(Repository.init(storage))
    for _ in range(20):
        check(Repository.open(storage, caches=tmp_path), share=0.05)
    read = [call.removeprefix("get ") for call in storage.calls if call.startswith("get packs/")]
    assert set(read) == everything
    assert len(read) < 1.5 * len(everything)


def test_a_share_is_of_the_bytes(repository: Repository) -> None:
    """Half the data, to within a pack."""
    total = 60 * 30_000
    _many_packs(repository)
    counts = check(repository, share=0.5)[0].counts
    assert total / 2 <= counts.read_bytes < total / 2 + 100_000


def test_a_check_that_is_told_to_stop_remembers_what_it_read(tmp_path: Path) -> None:
    """The next one goes on from there."""
    storage = FaultyStorage(MemoryStorage())
    _many_packs(Repository.init(storage))
    cancel = threading.Event()

    def progress(tally: Tally) -> None:
        if tally.members == 20:
            cancel.set()

    repository = Repository.open(storage, caches=tmp_path)
    with pytest.raises(Interrupted):
        check(repository, share=1.0, progress=progress, cancel=cancel)
    assert len(list(repository.cache.reads())) == 20


def test_damage_everywhere_is_counted_where_it_is_too_much_to_tell(
    repository: Repository, storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Findings stay bounded: so many packs of a snapshot, so many paths of a pack, and how many more."""
    monkeypatch.setattr(finding, "PACKS_TOLD", 2)
    monkeypatch.setattr(finding, "PATHS_TOLD", 3)
    monkeypatch.setattr(packer, "PACK_BYTES", 300_000)
    manifest = save(repository, tar_of({f"./{n:04}": noise(5000, seed=n) for n in range(400)}))
    for each in repository.reader(manifest).slices():
        storage.hide(each.pack)
    _, found = check(repository)
    assert [(len(each.paths), each.more_paths > 0) for each in found] == [(3, True), (3, True), (0, False)]
    assert found[-1].object is None
    assert re.search(r"[0-9]+ times more", found[-1].problem)


class _ShortListing(FaultyStorage):
    """Lists only the first packs."""

    def __init__(self, inner: FaultyStorage, *, keep: int) -> None:
        super().__init__(inner)
        self._keep = keep

    def list(self, prefix: str = ""):  # type: ignore[no-untyped-def]
        """What the storage lists, cut short."""
        infos = super().list(prefix)
        yield from (info for n, info in enumerate(infos) if prefix != "packs/" or n < self._keep)


class _BadSector(FaultyStorage):
    """A disk that cannot read a part of one pack."""

    def __init__(self, inner: FaultyStorage, bad: Slice) -> None:
        super().__init__(inner)
        self._bad = bad

    def get(self, key: str, *, limit_bytes: int) -> bytes:
        """The whole object, but for the one that is bad."""
        if key == self._bad.pack:
            raise StorageError("input/output error")
        return super().get(key, limit_bytes=limit_bytes)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """What the disk can read."""
        if key == self._bad.pack and offset < self._bad.end and self._bad.offset < offset + length:
            raise StorageError("input/output error")
        return super().get_range(key, offset, length)
