"""Packs that count as absent: sets come back as they were put, and half a set is none."""

from __future__ import annotations

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import ObjectDamaged, RepositoryUnsupported
from backupd.repository import Repository
from backupd.repository.gc.absent import LOST, Absent
from backupd.repository.gc.fingerprints import Fingerprints
from backupd.repository.gc.sets import Kind, put_set
from backupd.storage.memory import MemoryStorage
from tests.faults import FaultyStorage
from tests.streams import load, noise, save, tar_of

G1, G2 = "20260101T000000Z-0001", "20260201T000000Z-0002"
FOLDER = "packs/h/v/20260101T000000Z-aaaa"
PACK, OTHER = f"{FOLDER}/{1:016x}.pack", f"{FOLDER}/{2:016x}.pack"


@given(st.lists(st.sets(st.integers(0, 2**64 - 1), max_size=50), max_size=3))
def test_sets_name_what_was_put_into_them_and_nothing_else(numbers: list[set[int]]) -> None:
    """Whatever the names, and with several sets."""
    storage = MemoryStorage()
    named = set()
    for at, some in enumerate(numbers):
        packs = {f"{FOLDER}/{number:016x}.pack" for number in some}
        assert put_set(storage, f"20260101T000000Z-000{at}", "condemned", sorted(packs))
        named |= packs
    absent = Absent.load(storage)
    assert set(absent) == named
    assert all(pack in absent for pack in named)
    assert f"{FOLDER}/x.pack" not in absent


@pytest.mark.parametrize("kind", ["condemned", "damaged", "sparse"])
def test_a_writer_that_was_given_up_withdraws_only_for_what_may_be_lost(kind: Kind) -> None:
    """A sparse pack is as safe as any."""
    storage = MemoryStorage()
    put_set(storage, G1, kind, [PACK])
    put_set(storage, G2, "waiting", ["h/v/s"])
    assert PACK in Absent.load(storage)
    assert (PACK in Absent.load(storage, LOST)) == (kind != "sparse")


def test_a_set_that_is_removed_while_one_looks_names_nothing() -> None:
    """So are its packs: else nobody had removed it."""
    storage = MemoryStorage()
    put_set(storage, G1, "condemned", [PACK])
    vanishing = FaultyStorage(
        storage, fail_when=lambda call: storage.delete(f"gc/{G1}.condemned.zst") if "open" in call else None
    )
    assert list(Absent.load(vanishing)) == []


@given(st.sets(st.binary(max_size=40), max_size=3000))
def test_fingerprints_find_what_was_added(names: set[bytes]) -> None:
    """Also after growing."""
    found = Fingerprints()
    assert [found.add(name) for name in sorted(names)].count(True) == len(found) == len(names)
    assert all(name in found for name in names)
    assert not any(found.add(name) for name in names)


def test_what_is_not_known_under_gc_keeps_a_writer_out() -> None:
    """An object of a later version: writing beside it could lose chunks."""
    storage = MemoryStorage()
    storage.put(f"gc/{G1}.plan.zst", b"x")
    storage.flush()
    with pytest.raises(RepositoryUnsupported, match="gc/"):
        Absent.load(storage)


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_set_that_is_cut_short_is_refused(cut: int) -> None:
    """R9: half a set would let a writer use what is about to be deleted."""
    storage = MemoryStorage()
    put_set(storage, G1, "condemned", [PACK])
    key = f"gc/{G1}.condemned.zst"
    damaged = FaultyStorage(storage)
    damaged.truncate(key, next(iter(storage.list(key))).size_bytes - cut)
    with pytest.raises(ObjectDamaged, match=key):
        Absent.load(damaged)


@pytest.mark.parametrize(
    "content",
    [b"packs/x\n", f"{OTHER}\n{PACK}\n".encode(), f"{PACK}\n{PACK}\n".encode(), b"no end", b"\xff\n"],
)
def test_a_set_that_is_none_is_refused(content: bytes) -> None:
    """Not packs, not sorted, twice the same, not lines, not text."""
    storage = MemoryStorage()
    storage.put(f"gc/{G1}.damaged.zst", zstandard.compress(content))
    storage.flush()
    with pytest.raises(ObjectDamaged, match="gc/"):
        Absent.load(storage)


@pytest.mark.parametrize("kind", ["condemned", "damaged", "sparse"])
def test_a_writer_stores_what_counts_as_absent_again(kind: Kind) -> None:
    """R13: it is there, and not used; both snapshots restore, also when it is gone."""
    repository = Repository.init(MemoryStorage())
    stream = tar_of({"./a": noise(700_000), "./b": b"1"})
    first = save(repository, stream)
    packs = sorted({each.pack for each in repository.reader(first).slices()})
    put_set(repository.storage, G1, kind, packs)
    second = save(repository, stream, volume="other")
    assert second.chunks.new == second.chunks.count
    assert not set(packs) & {each.pack for each in repository.reader(second).slices()}
    assert load(repository, first) == load(repository, second) == stream
    for pack in packs:
        repository.storage.delete(pack)
    assert load(repository, first) == load(repository, second) == stream
