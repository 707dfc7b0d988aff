"""Reading many slices: neighbours together, so many bytes ahead and no more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import Interrupted, ObjectDamaged, StorageUnavailable
from backupd.repository import Repository
from backupd.repository.cache import Cache
from backupd.repository.chunks import ChunkStore
from backupd.repository.fetch import GAP_BYTES, Fetch, spans
from backupd.repository.slices import PACK_BYTES, PACK_LIMIT_BYTES, Slice
from backupd.repository.stream.codec import Codec
from backupd.storage.memory import MemoryStorage
from tests.faults import FaultyStorage
from tests.streams import load, noise, save, tar_of

PACKS = [f"packs/h/v/20261126T120000Z-0001/{number:016x}.pack" for number in range(3)]
CHUNK = 64 * "0"

SLICES = st.lists(
    st.builds(
        Slice,
        st.sampled_from(PACKS),
        st.integers(0, PACK_BYTES),
        st.integers(1, 9 << 20) | st.integers(1, 20_000),
        st.just(CHUNK),
    ),
    max_size=30,
)


@given(SLICES)
def test_spans_hold_all_slices_in_their_order(slices: list[Slice]) -> None:
    """Each within its span, of its pack; no span is larger than a pack can be, but for a single slice."""
    found = list(spans(slices))
    assert [each for span in found for each in span.slices] == slices
    for span in found:
        assert all(each.pack == span.pack for each in span.slices)
        assert all(span.offset <= each.offset and each.end <= span.end for each in span.slices)
        assert span.length <= PACK_LIMIT_BYTES or len(span.slices) == 1


def test_neighbours_are_read_together_and_others_are_not() -> None:
    """What is between them is read as well, if it is little; not what comes before."""
    a = Slice(PACKS[0], 1000, 100, CHUNK)
    near = Slice(PACKS[0], a.end + GAP_BYTES, 100, CHUNK)
    far = Slice(PACKS[0], near.end + GAP_BYTES + 1, 100, CHUNK)
    before = Slice(PACKS[0], 0, 100, CHUNK)
    elsewhere = Slice(PACKS[1], 100, 100, CHUNK)
    found = [span.slices for span in spans([a, near, a, far, before, elsewhere])]
    assert found == [[a, near, a], [far], [before], [elsewhere]]


class Slow(FaultyStorage):
    """Counts bytes that were asked for, and waits until it may answer."""

    asked_bytes = 0

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        self.asked_bytes += length
        return super().get_range(key, offset, length)


def stored(contents: list[bytes], storage: MemoryStorage) -> Iterator[Slice]:
    """The contents as chunks, one pack for all."""
    frames = [bytes(Codec().encode(content)) for content in contents]
    storage.put(PACKS[0], b"".join(frames))
    at = 0
    for content, frame in zip(contents, frames, strict=True):
        yield Slice(PACKS[0], at, len(frame), Codec().identify(content))
        at += len(frame)


def fetched(storage: FaultyStorage | MemoryStorage, slices: list[Slice]) -> Iterator[bytes]:
    """What `Fetch` makes of them."""
    chunks = ChunkStore(storage, Codec(), Cache())
    return Fetch(storage, chunks).contents(slices, cancel=threading.Event(), what="reading")


@pytest.mark.parametrize("size", [100, 5_000_000])
def test_contents_come_in_order_whatever_they_become(size: int) -> None:
    """I15: also where next to nothing in a pack becomes very much."""
    storage = MemoryStorage()
    contents = [bytes([number]) * size for number in range(60)]
    slices = list(stored(contents, storage))
    wanted = [*range(60), *range(59, -1, -1), 7, 7, 7]
    found = fetched(storage, [slices[number] for number in wanted])
    for number, content in zip(wanted, found, strict=True):
        assert content == contents[number]


def test_a_pack_is_asked_for_once_and_not_all_of_them_at_once() -> None:
    """Requests are few, and memory is bounded: who takes nothing has nothing fetched but what is ahead."""
    storage = Slow(MemoryStorage())
    repository = Repository.init(storage)
    manifest = save(repository, tar_of({"./x": noise(60_000_000)}))
    slices = list(repository.reader(manifest).slices())
    assert len(list(fetched(storage, slices))) == len(slices)
    packs = len({each.pack for each in slices})
    asked = sum(length for _, length in _ranges(slices))
    assert packs == len([call for call in storage.calls if call.startswith("get_range")])
    assert storage.asked_bytes == asked
    storage.inner.concurrency = storage.concurrency = 64
    storage.asked_bytes = 0
    begun = fetched(storage, slices)
    next(begun)
    begun.close()  # type: ignore[attr-defined]
    assert 0 < storage.asked_bytes < asked


def _ranges(slices: list[Slice]) -> list[tuple[str, int]]:
    ends = {each.pack: each.end for each in slices}
    assert all(one.end == two.offset for one, two in pairwise(slices) if one.pack == two.pack)
    return list(ends.items())


def test_slices_whose_span_cannot_be_read_are_read_one_by_one() -> None:
    """R4, R6: a request that fails, a pack that is cut short: what of it is whole comes back."""
    inner = MemoryStorage()
    contents = [noise(10_000, seed=number) for number in range(20)]
    slices = list(stored(contents, inner))
    storage = FaultyStorage(inner)
    storage.fail_once("get_range", StorageUnavailable("for a moment"))
    assert list(fetched(storage, slices)) == contents
    storage.truncate(PACKS[0], slices[10].end)
    assert list(fetched(storage, slices[:11])) == contents[:11]
    with pytest.raises(ObjectDamaged, match=r"ends before"):
        list(fetched(storage, slices))


def test_damage_is_read_from_another_pack() -> None:
    """R4: in the middle of a pack, and of a pack that is gone."""
    storage = FaultyStorage(MemoryStorage())
    repository = Repository.init(storage)
    stream = tar_of({"./a": noise(900_000), "./b": noise(900_000, seed=1)})
    first = save(repository, stream)
    (pack,) = {each.pack for each in repository.reader(first).slices()}
    storage.hide(pack)
    save(repository, stream)
    storage._hidden.clear()
    for harm in (lambda: storage.flip_bit(pack, 8 * 500_000), lambda: storage.hide(pack)):
        harm()
        assert load(Repository.open(storage), first) == stream


def test_a_length_that_no_slice_has_is_not_asked_for() -> None:
    """I15: what a chunk list claims does not decide how much is read."""
    storage = Slow(MemoryStorage())
    storage.put(PACKS[0], bytes(1000))
    with pytest.raises(ObjectDamaged, match="longer than a chunk can be"):
        list(fetched(storage, [Slice(PACKS[0], 0, 999_999_999, CHUNK)]))
    assert storage.asked_bytes <= PACK_LIMIT_BYTES


def test_who_is_told_to_stop_stops() -> None:
    """E3: between two chunks."""
    storage = MemoryStorage()
    slices = list(stored([noise(1000, seed=number) for number in range(9)], storage))
    cancel = threading.Event()
    contents = Fetch(storage, ChunkStore(storage, Codec(), Cache())).contents(
        slices * 1000, cancel=cancel, what="reading it"
    )
    next(contents)
    cancel.set()
    with pytest.raises(Interrupted, match="reading it was told to stop"):
        list(contents)
