"""Keys that count as absent: sets come back as they were put, and a name is left for every chunk."""

from __future__ import annotations

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import ObjectDamaged, RepositoryUnsupported
from backupd.repository import Repository
from backupd.repository.encryption.chunkkeys import chunk_of, stem_of
from backupd.repository.encryption.fingerprints import Fingerprints
from backupd.repository.gc.condemned import Condemned, put_set
from backupd.storage.memory import MemoryStorage
from tests.faults import FaultyStorage
from tests.streams import load, noise, save, tar_of

G1, G2, G3 = "20260101T000000Z-0001", "20260201T000000Z-0002", "20260301T000000Z-0003"
A, B = "aa" * 32, "bb" * 32
PLAIN = f"{stem_of(A)}.zst"


@pytest.mark.parametrize(
    "key",
    [PLAIN, f"{PLAIN}.age", f"{stem_of(A)}.{G1}.zst", f"{stem_of(A)}.{G1}.zst.age"],
)
def test_every_form_of_a_chunks_key_is_understood(key: str) -> None:
    """Plain, renamed by a set, encrypted."""
    assert chunk_of(key) == A


@pytest.mark.parametrize("key", ["chunks/ab/" + A + ".zst", PLAIN + "x", f"{stem_of(A)}.x.zst", "gc/x", ""])
def test_what_is_no_chunks_key_is_not_taken_for_one(key: str) -> None:
    """In another folder, with another ending, of another form."""
    assert chunk_of(key) is None


def test_a_chunk_that_no_set_names_has_its_plain_key() -> None:
    """As almost all have."""
    assert _loaded({G1: [f"{stem_of(B)}.zst"]}).key_for(A, ".zst") == PLAIN


def test_a_chunk_that_is_condemned_bears_the_newest_set_that_names_it() -> None:
    """So that a late deletion cannot hit what is stored now."""
    renamed = f"{stem_of(A)}.{G1}.zst"
    assert _loaded({G1: [PLAIN]}).key_for(A, ".zst") == renamed
    assert _loaded({G1: [PLAIN], G2: [renamed]}).key_for(A, ".zst") == f"{stem_of(A)}.{G2}.zst"


def test_a_collector_whose_clock_is_slow_does_not_make_writers_reuse_a_name() -> None:
    """S1: the newest set by name was made before the other, and its name for the chunk is condemned."""
    renamed = f"{stem_of(A)}.{G3}.zst"
    assert _loaded({G3: [PLAIN], G1: [renamed]}).key_for(A, ".zst") == f"{stem_of(A)}.{G1}.zst"


@given(order=st.permutations([G1, G2, G3]), plain=st.lists(st.booleans(), min_size=3, max_size=3))
def test_there_is_always_a_name(order: list[str], plain: list[bool]) -> None:
    """Sets come one after the other, whatever their ids; each condemns what writers used before it."""
    sets: dict[str, list[str]] = {}
    used = {PLAIN}
    for set_id, also_plain in zip(order, plain, strict=True):
        sets[set_id] = sorted(used | ({PLAIN} if also_plain else set()))
        key = _loaded(sets).key_for(A, ".zst")
        assert key not in _loaded(sets)
        assert key not in used
        used = {key}


@given(
    st.sets(st.binary(min_size=32, max_size=32), max_size=50),
    st.sets(st.sampled_from([".zst", f".{G1}.zst"])),
)
def test_a_set_names_what_was_put_into_it_and_nothing_else(ids: set[bytes], endings: set[str]) -> None:
    """Whatever the ids, and with several keys of one chunk."""
    keys = sorted(stem_of(chunk.hex()) + ending for chunk in ids for ending in endings)
    condemned = _loaded({G2: keys})
    assert all(key in condemned for key in keys)
    assert f"{stem_of(A)}.{G3}.zst" not in condemned


@given(st.sets(st.integers(0, 2**64 - 1), max_size=3000))
def test_fingerprints_find_what_was_added(values: set[int]) -> None:
    """Also those that begin with zeros, and after growing."""
    digests = [f"{value:016x}" for value in values | {0}]
    found = Fingerprints()
    assert [found.add(digest) for digest in digests].count(True) == len(found)
    assert all(digest in found for digest in digests)
    assert not any(found.add(digest) for digest in digests)


def test_what_is_not_known_under_gc_keeps_a_writer_out() -> None:
    """An object of a later version: writing beside it could lose chunks."""
    storage = MemoryStorage()
    storage.put(f"gc/{G1}.plan.zst", b"x")
    storage.flush()
    with pytest.raises(RepositoryUnsupported, match="gc/"):
        Condemned.load(storage)


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_set_that_is_cut_short_is_refused(cut: int) -> None:
    """R9: half a set would let a writer use what is about to be deleted."""
    storage = MemoryStorage()
    put_set(storage, G1, "condemned", [PLAIN])
    key = f"gc/{G1}.condemned.zst"
    damaged = FaultyStorage(storage)
    damaged.truncate(key, next(iter(storage.list(key))).size_bytes - cut)
    with pytest.raises(ObjectDamaged, match=key):
        Condemned.load(damaged)


@pytest.mark.parametrize(
    "content", [b"chunks/x\n", f"{stem_of(B)}.zst\n{PLAIN}\n".encode(), b"no end", b"\xff\n"]
)
def test_a_set_that_is_none_is_refused(content: bytes) -> None:
    """Not keys, not sorted, not lines, not text."""
    storage = MemoryStorage()
    storage.put(f"gc/{G1}.damaged.zst", zstandard.compress(content))
    storage.flush()
    with pytest.raises(ObjectDamaged, match="gc/"):
        Condemned.load(storage)


@pytest.mark.parametrize("kind", ["condemned", "damaged"])
def test_a_writer_stores_what_is_condemned_or_damaged_again_under_a_new_name(kind: str) -> None:
    """R13: it is there, and counts as absent; both snapshots restore."""
    repository = Repository.init(MemoryStorage())
    stream = tar_of({"./a": noise(700_000), "./b": b"1"})
    first = save(repository, stream)
    keys = sorted(set(repository.reader(first).chunk_keys()))
    put_set(repository.storage, G1, kind, keys)  # type: ignore[arg-type]
    second = save(repository, stream, volume="other")
    assert second.chunks.new == second.chunks.count
    assert not set(keys) & set(repository.reader(second).chunk_keys())
    for key in keys:
        repository.storage.delete(key)
    repository.reader(first).check_present()
    assert load(repository, first) == load(repository, second) == stream


def _loaded(sets: dict[str, list[str]]) -> Condemned:
    storage = MemoryStorage()
    for set_id, keys in sets.items():
        assert put_set(storage, set_id, "condemned", keys)
    return Condemned.load(storage)
