"""A repository: what was saved comes back whole, or an error says what is wrong; whatever dies in between."""

from __future__ import annotations

import gc
import hashlib
import re
import threading

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.errors import (
    HelperFailed,
    Interrupted,
    ObjectDamaged,
    RepositoryError,
    RepositoryMissing,
    RepositoryUnsupported,
    StorageError,
    StorageFull,
    StreamRejected,
    UsageError,
)
from backupd.progress import Tally, silent
from backupd.repository import Repository
from backupd.repository.slices import PACK_BYTES
from backupd.repository.stream.chunker import CHUNK_MAX
from backupd.snapshot import Manifest
from backupd.storage.memory import MemoryStorage
from tests.faults import Crash, FaultyStorage
from tests.streams import BytesSource, load, noise, save, tar_of

TREE = {"./a": b"1", "./b": noise(700_000, seed=1), "./c/d": noise(300_000, seed=2), "./e": b"text " * 9000}


@pytest.fixture
def repository() -> Repository:
    """A new repository in memory."""
    return Repository.init(MemoryStorage())


@settings(max_examples=40, deadline=None)
@given(
    files=st.dictionaries(
        st.text("abc/\n é", min_size=1, max_size=20).map(lambda name: "./" + name.strip("/") + "_"),
        st.binary(max_size=2000) | st.integers(0, 3_000_000).map(lambda size: noise(size, seed=size)),
        max_size=8,
    ),
    piece=st.integers(10_000, 2_000_000),
)
def test_loading_returns_what_was_saved(files: dict[str, bytes], piece: int) -> None:
    """Any tree, arriving in pieces of any size, comes back byte for byte."""
    repository = Repository.init(MemoryStorage())
    stream = tar_of(files)
    manifest = save(repository, stream, piece=piece)
    assert load(repository, manifest) == stream
    assert manifest.bytes.tar == len(stream)
    assert manifest.members.get("file", 0) == len(files)


def test_the_second_snapshot_stores_nothing_new(repository: Repository) -> None:
    """Deduplication: the same tree costs two sidecars and a manifest."""
    first, second = save(repository, tar_of(TREE)), save(repository, tar_of(TREE))
    assert first.chunks.new == first.chunks.count
    assert (second.chunks.new, second.bytes.new, second.bytes.stored) == (0, 0, 0)


def test_chunks_are_shared_between_hosts_and_volumes(repository: Repository) -> None:
    """One repository, many writers: content is stored once."""
    save(repository, tar_of({"./x": noise(800_000)}), host="a", volume="v")
    other = save(repository, tar_of({"./moved": noise(800_000), "./more": b"1"}), host="b", volume="w")
    assert other.bytes.new < 20_000


def test_the_slices_in_the_order_of_the_list_are_a_tar_zst(repository: Repository) -> None:
    """The promise behind the shell recipe, and the ids are the hashes of the contents."""
    manifest = save(repository, tar_of(TREE))
    chunk_list = repository.storage.get(manifest.chunks_key, limit_bytes=10**6)
    frames = []
    for line in _decompressed(chunk_list).decode().splitlines():
        pack, offset, length, chunk = re.split("[@+ ]", line)
        frames.append(repository.storage.get_range(pack, int(offset), int(length)))
        assert hashlib.sha256(_decompressed(frames[-1])).hexdigest() == chunk
    assert _decompressed(b"".join(frames)) == tar_of(TREE)


def test_chunks_lie_in_full_packs_in_the_order_of_the_stream(repository: Repository) -> None:
    """A first snapshot is read pack after pack, each from beginning to end; nothing else is in them."""
    manifest = save(repository, tar_of({"./a": noise(9_000_000), "./b": noise(9_000_000, seed=1)}))
    found = list(repository.reader(manifest).slices())
    sizes = {info.key: info.size_bytes for info in repository.storage.list("packs/")}
    at, packs = 0, [found[0].pack]
    for each in found:
        if each.pack != packs[-1]:
            assert sizes[packs[-1]] == at >= PACK_BYTES
            packs.append(each.pack)
            at = 0
        assert each.offset == at
        at = each.end
    assert set(packs) == set(sizes)
    assert max(sizes.values()) < PACK_BYTES + CHUNK_MAX


def test_content_that_comes_twice_in_a_stream_is_stored_once(repository: Repository) -> None:
    """Also where it comes again before its pack is full, and the list names the same slice twice."""
    content = noise(900_000)
    manifest = save(repository, tar_of({"./a": content, "./b": content}))
    assert manifest.bytes.new < 1_000_000
    assert load(repository, manifest) == tar_of({"./a": content, "./b": content})


def _decompressed(frames: bytes) -> bytes:
    """The content of all frames, as the zstd command sees them."""
    with zstandard.ZstdDecompressor().stream_reader(frames, read_across_frames=True) as stream:
        return stream.read()


def test_the_index_names_every_member(repository: Repository) -> None:
    """In tar order, with where to find it."""
    manifest = save(repository, tar_of(TREE))
    assert [entry.path.decode() for entry in repository.reader(manifest).members()] == sorted(TREE)


def test_part_of_the_stream_is_read_from_its_chunks_alone() -> None:
    """Reading one member fetches the chunks that the index names."""
    storage = FaultyStorage(MemoryStorage())
    repository = Repository.init(storage)
    manifest = save(repository, tar_of({**TREE, "./z": noise(30_000_000, seed=7)}))
    entry = next(entry for entry in repository.reader(manifest).members() if entry.path == b"./c/d")
    before = len(storage.calls)
    part = b"".join(repository.reader(manifest).stream(threading.Event(), entry.first, entry.last))
    assert TREE["./c/d"] in part
    assert len([call for call in storage.calls[before:] if call.startswith("get")]) == 1


def test_a_stream_without_its_end_leaves_no_snapshot(repository: Repository) -> None:
    """E14: cut short, rejected."""
    with pytest.raises(StreamRejected, match="cut short"):
        save(repository, tar_of(TREE)[:500_000])
    assert repository.snapshots() == []


def test_what_the_end_of_the_source_raises_leaves_no_snapshot(repository: Repository) -> None:
    """E13: tar's verdict comes after its last byte, and counts."""

    def verdict() -> None:
        raise HelperFailed("tar exited with 2")

    with (
        pytest.raises(HelperFailed, match="exited"),
        repository.begin(host="h", volume="v", snapshot="s") as writer,
    ):
        writer.store(BytesSource(tar_of(TREE)), at_end=verdict, progress=silent, cancel=threading.Event())
    assert repository.snapshots() == []


def test_the_end_is_told_before_everything_is_stored(repository: Repository) -> None:
    """Quiesce can end when tar ends: storing the last chunks does not keep it waiting."""
    ended, stored = threading.Event(), threading.Event()

    class Slow(MemoryStorage):
        def put(self, key: str, data: object) -> bool:
            if key.startswith("packs/"):
                assert ended.wait(30), "the end was not told while a pack was still being stored"
                stored.set()
            return super().put(key, data)  # type: ignore[arg-type]

    save_to = Repository.init(Slow())
    with save_to.begin(host="h", volume="v", snapshot="s") as writer:
        writer.store(BytesSource(tar_of(TREE)), at_end=ended.set, progress=silent, cancel=threading.Event())
    assert stored.is_set()


def test_a_cancelled_save_leaves_no_snapshot(repository: Repository) -> None:
    """E3: told to stop, it stops."""
    cancel = threading.Event()

    def stop(_: Tally) -> None:
        cancel.set()

    stream = tar_of({"./z": noise(60_000_000)})
    with pytest.raises(Interrupted), repository.begin(host="h", volume="v", snapshot="s") as writer:
        writer.store(BytesSource(stream), at_end=lambda: None, progress=stop, cancel=cancel)
    assert repository.snapshots() == []


def test_a_full_storage_leaves_no_snapshot_and_harms_none() -> None:
    """R1: the disk fills in the middle; what was there before is whole."""
    inner = MemoryStorage()
    earlier = save(Repository.init(inner), tar_of(TREE))
    packs = 0

    def full(call: str) -> StorageError | None:
        nonlocal packs
        packs += call.startswith("put packs/")
        return StorageFull("no room") if packs > 1 else None

    with pytest.raises(StorageFull):
        save(Repository.open(FaultyStorage(inner, fail_when=full)), tar_of({"./n": noise(9_000_000, seed=5)}))
    repository = Repository.open(inner)
    assert repository.snapshots() == [earlier]
    assert load(repository, earlier) == tar_of(TREE)


@pytest.mark.parametrize("survives", ["nothing", "manifests"])
def test_a_crash_before_any_storage_call_leaves_every_snapshot_whole(survives: str) -> None:
    """R3: the process dies before each call; of what was not flushed all is lost, or all but manifests."""
    count = len(_calls_of_two_saves(None)[0].calls)
    assert count > 15
    for number in range(count):
        storage, committed = _calls_of_two_saves(number)
        storage.inner.crash(  # type: ignore[attr-defined]
            lambda key: survives == "manifests" and key.startswith("snapshots/") and key.endswith(".json")
        )
        if not storage.inner.exists("backupd.json"):
            continue
        survivor = Repository.open(storage.inner)
        found = survivor.snapshots()
        assert {manifest.snapshot for manifest in found} >= committed
        for manifest in found:
            assert load(survivor, manifest) in (tar_of(TREE), tar_of({"./other": noise(400_000, seed=8)}))


def _calls_of_two_saves(crash_before: int | None) -> tuple[FaultyStorage, set[str]]:
    storage, committed = FaultyStorage(MemoryStorage(), crash_before=crash_before), set()
    try:
        repository = Repository.init(storage)
        committed.add(save(repository, tar_of(TREE)).snapshot)
        committed.add(save(repository, tar_of({"./other": noise(400_000, seed=8)})).snapshot)
    except Crash:
        pass
    return storage, committed


@pytest.mark.parametrize("bit", [0, 100, 1000, 7777])
def test_a_flipped_bit_in_any_object_is_named_and_never_returned(bit: int) -> None:
    """R4: pack, chunk list, index."""
    storage = FaultyStorage(MemoryStorage())
    manifest = save(Repository.init(storage), tar_of(TREE))
    for info in [*storage.inner.list("packs/"), *storage.inner.list("snapshots/")]:
        if info.key.endswith(".json"):
            continue
        damaged = FaultyStorage(storage.inner)
        damaged.flip_bit(info.key, bit)
        repository = Repository.open(damaged)
        with pytest.raises(ObjectDamaged, match=re.escape(info.key)):
            _read(repository, manifest)


@pytest.mark.parametrize("name", ["chunks_key", "index_key"])
def test_a_sidecar_that_is_well_formed_but_another_is_refused(repository: Repository, name: str) -> None:
    """R4: a chunk list or index of another snapshot under this one's name does not restore as this one."""
    manifest, other = save(repository, tar_of(TREE)), save(repository, tar_of({"./x": b"1"}))
    storage = repository.storage
    content = storage.get(getattr(other, name), limit_bytes=10**6)
    storage.delete(getattr(manifest, name))
    storage.put(getattr(manifest, name), content)
    with pytest.raises(ObjectDamaged, match=re.escape(getattr(manifest, name))):
        _read(repository, manifest)


def _read(repository: Repository, manifest: Manifest) -> None:
    list(repository.reader(manifest).members())
    load(repository, manifest)


def test_a_run_leaves_no_memory_to_the_garbage_collector(repository: Repository) -> None:
    """A daemon that saves a small volume each minute must not hold the buffers of the last hundred runs."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            save(repository, tar_of(TREE))
        buffers = [found for found in gc.get_objects() if type(found).__name__ == "_Buffer"]
    finally:
        gc.enable()
    assert buffers == []


def test_a_missing_chunk_is_found_before_anything_is_read() -> None:
    """T1: the check names a missing chunk without reading any."""
    storage = FaultyStorage(MemoryStorage())
    repository = Repository.init(storage)
    manifest = save(repository, tar_of(TREE))
    repository.reader(manifest).check_present()
    pack = next(iter(storage.inner.list("packs/"))).key
    storage.hide(pack)
    with pytest.raises(ObjectDamaged, match=pack):
        repository.reader(manifest).check_present()
    assert not [call for call in storage.calls if call == f"get_range {pack}"]


def test_a_pack_that_is_too_short_is_found_before_anything_is_read() -> None:
    """T1: what the listing says of its size is enough."""
    storage = MemoryStorage()
    repository = Repository.init(storage)
    manifest = save(repository, tar_of(TREE))
    pack = next(iter(storage.list("packs/"))).key
    content = storage.get(pack, limit_bytes=10**7)
    storage.delete(pack)
    storage.put(pack, content[:-1])
    storage.flush()
    with pytest.raises(ObjectDamaged, match=f": 1 chunks missing, first {pack}"):
        repository.reader(manifest).check_present()


def test_what_a_listing_lacks_is_asked_for_before_a_restore() -> None:
    """T1: a listing of each folder instead of a request for each pack; what is there is not damage."""
    storage = FaultyStorage(MemoryStorage())
    repository = Repository.init(storage)
    manifest = save(repository, tar_of({"./a": noise(9_000_000)}))
    storage.calls.clear()
    repository.reader(manifest).check_present()
    assert [call.split()[0] for call in storage.calls] == ["open", "list"]
    storage.break_listing(None, after=1)
    repository.reader(manifest).check_present()
    assert [call for call in storage.calls if call.startswith("exists packs/")]


def test_a_storage_without_marker_is_no_repository() -> None:
    """I19: an empty mount point does not look like a repository; the error says how to make one."""
    with pytest.raises(RepositoryMissing) as caught:
        Repository.open(MemoryStorage())
    assert "backupd init" in str(caught.value.hint)


def test_init_refuses_what_is_a_repository_already(repository: Repository) -> None:
    """And leaves it as it is."""
    with pytest.raises(RepositoryError, match="already"):
        Repository.init(repository.storage)
    assert Repository.open(repository.storage).id == repository.id


@pytest.mark.parametrize("marker", [b'{"format":2}', b'{"format":1,"required_features":["later"]}',
                                    b'{"format":1,"encryption":{"recipients":[]}}'])  # fmt: skip
def test_a_newer_repository_is_refused(marker: bytes) -> None:
    """A format, a feature or an encryption that this version does not know."""
    storage = MemoryStorage()
    storage.put("backupd.json", marker)
    with pytest.raises(RepositoryUnsupported):
        Repository.open(storage)


def test_a_session_is_open_while_a_snapshot_is_written_and_done_after(repository: Repository) -> None:
    """Collectors see who writes."""
    with repository.begin(host="h", volume="v", snapshot="s"):
        assert repository.storage.exists("sessions/h/v/s")
        assert not repository.storage.exists("sessions/h/v/s.done")
    assert repository.storage.exists("sessions/h/v/s.done")


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "ä", "a\nb"])
def test_a_host_name_that_would_leave_its_folder_is_refused(repository: Repository, name: str) -> None:
    """Names become parts of keys."""
    with pytest.raises(UsageError):
        repository.begin(host=name, volume="v", snapshot="s")
