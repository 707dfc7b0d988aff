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
from backupd.repository import Repository
from backupd.repository.gc.condemned import put_set, sets
from backupd.repository.verification import finding
from backupd.repository.verification.finding import Finding
from backupd.snapshot import Manifest
from backupd.storage.local import LocalStorage
from backupd.storage.memory import MemoryStorage
from tests.faults import FaultyStorage
from tests.streams import load, noise, save, tar_of

TREE = {"./a": b"1", "./b": noise(700_000, seed=1), "./c/d": noise(300_000, seed=2), "./e": b"text " * 9000}
STREAM = tar_of(TREE)


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


def key_of(repository: Repository, manifest: Manifest, path: bytes) -> str:
    """The key of the last chunk that holds a member."""
    entry = next(entry for entry in repository.reader(manifest).members() if entry.path == path)
    return list(repository.reader(manifest).chunk_keys())[entry.last]


def test_a_whole_repository_has_no_findings(repository: Repository, storage: FaultyStorage) -> None:
    """All levels; the cheap ones list the chunks once and ask for none."""
    save(repository, STREAM)
    save(repository, STREAM, volume="other")
    storage.calls.clear()
    verified, found = check(repository)
    assert (found, verified.counts.snapshots, verified.counts.chunks) == ([], 2, 6)
    assert [call for call in storage.calls if "chunks/" in call] == ["list chunks/"]
    verified, found = check(repository, share=1.0)
    assert (found, verified.counts.read_chunks, verified.marked) == ([], 6, 0)


def test_a_chunk_of_many_snapshots_is_read_once(repository: Repository, storage: FaultyStorage) -> None:
    """Each distinct chunk, however often it is named."""
    for volume in ("a", "b", "c"):
        save(repository, STREAM, volume=volume)
    storage.calls.clear()
    check(repository, share=1.0)
    read = [call for call in storage.calls if call.startswith("get chunks/")]
    assert len(read) == len(set(read)) == 6


@pytest.mark.parametrize("damage", ["flip", "truncate", "hide", "swap", "empty", "bomb", "twice"])
def test_a_damaged_chunk_is_found_with_the_files_it_hits(
    repository: Repository, storage: FaultyStorage, damage: str
) -> None:
    """R4, I15: whatever is wrong with it; the other snapshots are not accused."""
    whole = save(repository, tar_of({"./x": b"1"}), volume="whole")
    manifest = save(repository, STREAM)
    key = key_of(repository, manifest, b"./c/d")
    content = storage.inner.get(key, limit_bytes=10**7)
    if damage == "flip":
        storage.flip_bit(key, 8 * 1000)
    elif damage == "truncate":
        storage.truncate(key, 5000)
    elif damage == "hide":
        storage.hide(key)
    else:
        storage.inner.delete(key)
        storage.inner.put(key, {"swap": zstandard.compress(b"another"), "empty": b"",
                                "bomb": zstandard.compress(bytes(10**8)),
                                "twice": content + content}[damage])  # fmt: skip
        storage.inner.flush()
    verified, found = check(repository, share=1.0)
    assert [(each.volume, each.snapshot, each.object, each.paths) for each in found] == [
        ("data", manifest.snapshot, key, (b"./c/d",))
    ]
    assert key in found[0].problem
    assert (verified.counts.snapshots, verified.marked) == (2, 1)
    assert load(repository, whole)


@pytest.mark.parametrize("damage", ["hide", "empty"])
def test_a_missing_or_empty_chunk_is_found_without_reading(
    repository: Repository, storage: FaultyStorage, damage: str
) -> None:
    """R4: the cheap levels see what the listing shows; only the suspect is looked at."""
    key = key_of(repository, save(repository, STREAM), b"./b")
    if damage == "hide":
        storage.hide(key)
    else:
        storage.inner.delete(key)
        storage.inner.put(key, b"")
        storage.inner.flush()
    storage.calls.clear()
    _, found = check(repository)
    assert [(each.object, each.paths) for each in found] == [(key, (b"./b",))]
    assert {call for call in storage.calls if call.startswith("get chunks/")} == {f"get {key}"}


@pytest.mark.parametrize("name", ["key", "chunks_key", "index_key"])
@pytest.mark.parametrize("damage", ["flip", "hide", "other"])
def test_a_damaged_manifest_or_sidecar_is_a_finding(
    repository: Repository, storage: FaultyStorage, name: str, damage: str
) -> None:
    """R4, I16: it is named, and the snapshots beside it are checked all the same."""
    other = save(repository, tar_of({"./x": b"1"}), volume="other")
    bad = save(repository, STREAM)
    key = getattr(bad, name)
    hit = key_of(repository, other, b"./x")
    storage.flip_bit(hit, 99)
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
    assert accused == {("other", hit)} | (set() if gone else {("data", key)})


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
    """R9: chunks that are there though the storage does not list them are counted, not accused."""
    save(repository, STREAM)
    short = _ShortListing(storage, keep=2)
    verified, found = check(Repository.open(short))
    assert (found, verified.counts.unlisted, verified.marked) == ([], 4, 0)
    assert sets(storage) == []


def test_a_read_that_fails_once_is_no_damage(repository: Repository, storage: FaultyStorage) -> None:
    """R6: looked at twice before it counts."""
    key = key_of(repository, save(repository, STREAM), b"./b")
    failures = [StorageError("connection reset")]
    flaky = FaultyStorage(
        storage, fail_when=lambda call: failures.pop() if call == f"get {key}" and failures else None
    )
    verified, found = check(Repository.open(flaky), share=1.0)
    assert (found, verified.marked, failures) == ([], 0, [])


def test_an_object_that_a_disk_cannot_read_is_damage(repository: Repository, storage: FaultyStorage) -> None:
    """R4: the storage answers, this object it cannot give back."""
    key = key_of(repository, save(repository, STREAM), b"./b")
    bad = FaultyStorage(
        storage, fail_when=lambda call: StorageError("input/output error") if call == f"get {key}" else None
    )
    verified, found = check(Repository.open(bad), share=1.0)
    assert [(each.object, each.problem) for each in found] == [(key, "input/output error")]
    assert verified.marked == 1


def test_a_storage_that_is_away_is_no_damage(repository: Repository, storage: FaultyStorage) -> None:
    """R6: the run fails, and nothing is marked."""
    save(repository, STREAM)
    away = threading.Event()

    def fail(call: str) -> StorageError | None:
        if call.startswith("get chunks/"):
            away.set()
        return StorageError("no route to host") if away.is_set() else None

    with pytest.raises(StorageError, match="no route"):
        check(Repository.open(FaultyStorage(storage, fail_when=fail)), share=1.0)
    assert sets(storage) == []


def test_a_storage_that_lists_and_gives_nothing_is_no_damage(
    repository: Repository, storage: FaultyStorage
) -> None:
    """R10: rights to read that ended; each chunk would seem damaged."""
    save(repository, STREAM)
    chunks = threading.Event()

    def fail(call: str) -> StorageError | None:
        if call.startswith("get chunks/"):
            chunks.set()
        return StorageError("forbidden") if chunks.is_set() and call.startswith("get") else None

    with pytest.raises(StorageError, match="forbidden"):
        check(Repository.open(FaultyStorage(storage, fail_when=fail)), share=1.0)
    assert sets(storage) == []


def test_the_next_backup_mends_what_was_found(tmp_path: Path) -> None:
    """R4: flip a bit, remove a chunk; found, stored again, healed; the old snapshot is whole once more."""
    with LocalStorage.create(tmp_path / "r") as storage:
        repository = Repository.init(storage)
        old = save(repository, STREAM)
        flipped, removed = key_of(repository, old, b"./b"), key_of(repository, old, b"./c/d")
        file = tmp_path / "r" / flipped
        damaged = bytearray(file.read_bytes())
        damaged[1000] ^= 1
        file.write_bytes(damaged)
        (tmp_path / "r" / removed).unlink()

        verified, found = check(repository, share=1.0)
        assert {each.object for each in found} == {flipped, removed}
        assert verified.marked == 2
        verified, found = check(repository)
        assert {each.object for each in found} == {flipped, removed}  # known by now, also without reading
        assert verified.marked == 0

        new = save(repository, STREAM)
        assert new.chunks.new == 2
        for share in (0.0, 1.0):
            verified, found = check(repository, share=share)
            assert (found, verified.marked) == ([], 0)
        repository.reader(old).check_present()
        assert load(repository, old) == load(repository, new) == STREAM
        assert file.read_bytes() == damaged


def test_what_rots_again_is_mended_again(repository: Repository, storage: FaultyStorage) -> None:
    """The copy under the new key is marked in turn, also where only the old snapshot is left to need it."""
    old = save(repository, STREAM)
    key = key_of(repository, old, b"./b")
    storage.flip_bit(key, 99)
    check(repository, share=1.0)
    new = save(repository, STREAM)
    copy = key_of(repository, new, b"./b")
    repository.storage.delete(new.key)
    storage.flip_bit(copy, 99)
    verified, found = check(repository, share=1.0)
    assert ([each.object for each in found], verified.marked) == ([key], 1)
    third = save(repository, STREAM)
    assert key_of(repository, third, b"./b") not in (key, copy)
    assert check(repository, share=1.0)[1] == []
    assert load(repository, old) == STREAM


def test_a_damaged_chunk_with_a_healthy_twin_is_marked_and_no_finding(
    repository: Repository, storage: FaultyStorage
) -> None:
    """Collectors keep the twin only where the damaged key is marked."""
    old = save(repository, STREAM)
    key = key_of(repository, old, b"./b")
    put_set(storage, "20260101T000000Z-0001", "condemned", [key])
    save(repository, STREAM)
    storage.flip_bit(key, 99)
    verified, found = check(repository, share=1.0)
    assert (found, verified.marked) == ([], 1)
    assert load(repository, old) == STREAM


def test_a_chunk_brought_back_is_whole_again(repository: Repository, storage: FaultyStorage) -> None:
    """A mark is a suspicion for the next check, not a verdict."""
    key = key_of(repository, save(repository, STREAM), b"./b")
    content = storage.inner.get(key, limit_bytes=10**7)
    storage.inner.delete(key)
    assert check(repository)[1]
    storage.inner.put(key, content)
    storage.inner.flush()
    assert check(repository)[1] == []


def test_who_may_not_write_still_looks(repository: Repository, storage: FaultyStorage) -> None:
    """A read-only copy is checked; that nothing could be marked is told."""
    key = key_of(repository, save(repository, STREAM), b"./b")
    storage.flip_bit(key, 99)
    locked = FaultyStorage(
        storage, fail_when=lambda call: StorageError("read-only") if call.startswith("put") else None
    )
    verified, found = check(Repository.open(locked), share=1.0)
    assert [each.object for each in found] == [key]
    assert (verified.marked, str(verified.unmarked)) == (0, "read-only")


def test_a_damaged_set_of_marks_is_a_finding_and_hides_none(
    repository: Repository, storage: FaultyStorage
) -> None:
    """R4: under gc/ too."""
    key = key_of(repository, save(repository, STREAM), b"./b")
    storage.put("gc/20260101T000000Z-0001.damaged.zst", b"no zstd")
    storage.flush()
    storage.hide(key)
    verified, found = check(repository)
    assert [each.object for each in found] == [None, key]
    assert "gc/20260101T000000Z-0001.damaged.zst" in found[0].problem
    assert verified.marked == 0


def test_a_snapshot_that_is_forgotten_meanwhile_is_no_finding(
    repository: Repository, storage: FaultyStorage
) -> None:
    """Retention and a collection go on while verify looks."""
    manifest = save(repository, STREAM)

    def forget(call: str) -> None:
        if call == "list chunks/":
            for key in (manifest.key, *repository.reader(manifest).chunk_keys()):
                storage.delete(key)

    _, found = check(Repository.open(FaultyStorage(storage, fail_when=forget)))
    assert found == []


def test_only_what_is_asked_for_is_checked(repository: Repository, storage: FaultyStorage) -> None:
    """By host and by volume; a misspelt one is an error (I20)."""
    bad = save(repository, STREAM, volume="bad")
    save(repository, tar_of({"./x": b"1"}), volume="good")
    save(repository, tar_of({"./x": b"1"}), host="db2", volume="good")
    storage.hide(key_of(repository, bad, b"./b"))
    assert check(repository, volumes=["good"])[0].counts.snapshots == 2
    assert check(repository, volumes=["good"], host="db2")[0].counts.snapshots == 1
    assert check(repository, volumes=["good"])[1] == []
    assert len(check(repository, volumes=["good", "bad"])[1]) == 1
    for wrong in ({"volumes": ["goood"]}, {"host": "db3"}, {"host": "db2", "volumes": ["bad"]}):
        with pytest.raises(SnapshotNotFound):
            check(repository, **wrong)


def test_twenty_runs_of_five_percent_read_everything(tmp_path: Path) -> None:
    """What was read is remembered, and what was read longest ago comes first."""
    storage = FaultyStorage(MemoryStorage())
    save(Repository.init(storage), tar_of({f"./{n}": noise(300_000, seed=n) for n in range(60)}))
    everything = {info.key for info in storage.list("chunks/")}
    for _ in range(20):
        check(Repository.open(storage, caches=tmp_path), share=0.05)
    read = [call.removeprefix("get ") for call in storage.calls if call.startswith("get chunks/")]
    assert set(read) == everything
    assert len(read) < 1.5 * len(everything)


def test_a_share_is_of_the_bytes(repository: Repository) -> None:
    """Half the data, to within a chunk."""
    save(repository, tar_of({f"./{n}": noise(300_000, seed=n) for n in range(20)}))
    counts = check(repository, share=0.5)[0].counts
    assert 3_000_000 <= counts.read_bytes < 3_700_000


def test_a_check_that_is_told_to_stop_remembers_what_it_read(tmp_path: Path) -> None:
    """The next one goes on from there."""
    storage = FaultyStorage(MemoryStorage())
    save(Repository.init(storage), tar_of({f"./{n}": noise(300_000, seed=n) for n in range(100)}))
    cancel = threading.Event()

    def progress(tally: Tally) -> None:
        if tally.members == 40:
            cancel.set()

    repository = Repository.open(storage, caches=tmp_path)
    with pytest.raises(Interrupted):
        check(repository, share=1.0, progress=progress, cancel=cancel)
    assert len(list(repository.cache.reads())) == 40


def test_damage_everywhere_is_counted_where_it_is_too_much_to_tell(
    repository: Repository, storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Findings stay bounded: so many chunks of a snapshot, so many paths of a chunk, and how many more."""
    monkeypatch.setattr(finding, "CHUNKS_TOLD", 2)
    monkeypatch.setattr(finding, "PATHS_TOLD", 3)
    manifest = save(repository, tar_of({f"./{n:04}": noise(5000, seed=n) for n in range(400)}))
    for key in repository.reader(manifest).chunk_keys():
        storage.hide(key)
    _, found = check(repository)
    assert [(len(each.paths), each.more_paths > 0) for each in found] == [(3, True), (3, True), (0, False)]
    assert found[-1].object is None
    assert re.search(r"[0-9]+ times more", found[-1].problem)


class _ShortListing(FaultyStorage):
    """Lists only the first chunks."""

    def __init__(self, inner: FaultyStorage, *, keep: int) -> None:
        super().__init__(inner)
        self._keep = keep

    def list(self, prefix: str = ""):  # type: ignore[no-untyped-def]
        """What the storage lists, cut short."""
        infos = super().list(prefix)
        yield from (info for n, info in enumerate(infos) if prefix != "chunks/" or n < self._keep)
