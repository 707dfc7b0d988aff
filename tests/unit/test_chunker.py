"""Cut points: a function of the stream, local to what changed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.errors import StreamRejected
from backupd.repository.stream import index
from backupd.repository.stream.chunker import CHUNK_MAX, PAGE_CHUNK, PAGED, Cutter
from backupd.repository.stream.walk import GROUP_MAX, LARGE, Listing
from tests.streams import noise, tar_of

Seen = list[tuple[bytes, int, int, int, int]]


def entries(listing: Listing) -> Seen:
    """Path, offset, first and last chunk and skip of the members in a listing."""
    members = [index.decode(line, key="index") for line in listing.lines.splitlines()]
    assert len(members) == listing.counts.total()
    return [(m.path, m.offset, m.first, m.last, m.skip) for m in members]


def cut(stream: bytes, *, piece: int | None = None) -> tuple[list[bytes], Seen]:
    """The chunks of a stream that arrives in pieces, and the members seen."""
    seen: Seen = []
    cutter = Cutter(lambda listing: seen.extend(entries(listing)))
    chunks, start, filled = [], 0, 0
    while True:
        filled = min(len(stream), filled + (piece or len(stream)))
        base = start
        for end in cutter.cut(memoryview(stream)[base:filled], last=filled == len(stream)):
            chunks.append(stream[start : base + end])
            start = base + end
        if filled == len(stream):
            return chunks, seen


def small_files(count: int, *, seed: int = 1) -> dict[str, bytes]:
    """Files of up to 40 KB."""
    draw = random.Random(seed)
    return {f"./d{n % 7}/f{n:05}": draw.randbytes(draw.randrange(40_000)) for n in range(count)}


MIXED = {
    **small_files(60),
    "./empty": b"",
    "./big.bin": noise(9_000_000, seed=3),
    "./base/16384/2619": noise(1_000_000, seed=4),
    "./exact": noise(LARGE, seed=5),
    "./text": b"all work and no play\n" * 40_000,
}


@settings(max_examples=25, deadline=None)
@given(piece=st.integers(1_000, 12_000_000))
def test_cuts_do_not_depend_on_how_the_stream_arrives(piece: int) -> None:
    """The same stream in pieces of any size has the same chunks and the same index."""
    stream = tar_of(MIXED)
    chunks, seen = cut(stream)
    assert b"".join(chunks) == stream
    assert cut(stream, piece=max(piece, len(stream) // 300)) == (chunks, seen)


def test_chunks_stay_within_their_limits() -> None:
    """No chunk is empty or longer than CHUNK_MAX."""
    chunks, _ = cut(tar_of(MIXED))
    assert all(0 < len(chunk) <= CHUNK_MAX for chunk in chunks)


def test_the_index_finds_every_member() -> None:
    """Chunk and skip of each member lead to its head, offset leads there in the stream."""
    stream = tar_of(MIXED)
    chunks, seen = cut(stream)
    assert sorted(path.decode() for path, *_ in seen) == sorted(MIXED)
    for path, offset, first, last, skip in seen:
        content = MIXED[path.decode()]
        assert stream[offset : offset + 512] == chunks[first][skip : skip + 512]
        assert content in b"".join(chunks[first : last + 1])


def test_a_large_file_has_the_same_chunks_under_another_name_and_mode() -> None:
    """Large data is cut from its own beginning: renaming stores nothing of it again."""
    content = noise(6_000_000, seed=9)
    ours, _ = cut(tar_of({"./a": content}))
    theirs, _ = cut(tar_of({"./another/name": content, "./x": b"1" * 999}))
    shared = set(ours) & set(theirs)
    assert sum(map(len, shared)) >= len(content)


def test_an_insertion_into_a_large_file_stays_local() -> None:
    """One byte more at the front changes one or two chunks, not all."""
    content = noise(20_000_000, seed=10)
    before, _ = cut(tar_of({"./a": content}))
    after, _ = cut(tar_of({"./a": b"!" + content}))
    assert sum(len(chunk) for chunk in set(after) - set(before)) < 8_500_000


@pytest.mark.parametrize("name", ["./base/16384/2619", "./ibdata1", "./app.sqlite", "./vm/disk.qcow2"])
def test_pages_rewritten_in_place_change_only_their_chunks(name: str) -> None:
    """Database files are cut at fixed places: a rewritten page changes one chunk of 256 KiB."""
    content = bytearray(noise(4_000_000, seed=11))
    before, _ = cut(tar_of({name: bytes(content)}))
    content[1_000_000:1_008_192] = noise(8_192, seed=12)
    after, _ = cut(tar_of({name: bytes(content)}))
    assert [len(chunk) for chunk in set(after) - set(before)] == [PAGE_CHUNK]


@pytest.mark.parametrize(
    "path",
    [b"./base/1/1259", b"./base/16384/16389_fsm", b"./base/5/2619.1", b"./global/1262",
     b"./pg_wal/0000000100000000000000A1", b"./pgdata/base/1/112", b"./shop/orders.ibd",
     b"./pg_tblspc/16400/PG_16_202307071/5/1234", b"./collection-7.wt", b"./dump.db"],
)  # fmt: skip
def test_database_files_are_known_as_paged(path: bytes) -> None:
    """The pattern knows the usual databases."""
    assert PAGED.search(path)


@pytest.mark.parametrize(
    "path", [b"./base/readme.txt", b"./photos/1.jpg", b"./db/dump.sql", b"./a.db.gz", b"./base"]
)
def test_other_files_are_not_paged(path: bytes) -> None:
    """And nothing else."""
    assert not PAGED.search(path)


def test_a_new_small_file_disturbs_few_groups() -> None:
    """One file more among 2,000 leaves all but its neighbourhood as it was."""
    files = small_files(600)
    before, _ = cut(tar_of(files))
    after, _ = cut(tar_of({**files, "./d3/f00100x": b"new" * 1000}))
    assert sum(len(chunk) for chunk in set(after) - set(before)) <= 2 * GROUP_MAX


@pytest.mark.parametrize("keep", [0, 511, 512, 100_000, -512, -10_240])
def test_a_stream_that_is_cut_short_is_refused(keep: int) -> None:
    """E14: without the end-of-archive blocks a stream is not whole, wherever it was cut."""
    stream = tar_of({"./a": noise(150_000), "./b": noise(300_000)})
    rest = len(stream.rstrip(b"\0"))
    short = stream[: keep or None][: max(keep, 0)] if keep >= 0 else stream[: rest + 512 + keep]
    with pytest.raises(StreamRejected):
        cut(short)


def test_bytes_after_the_end_are_refused() -> None:
    """A second archive behind the first is not what tar writes."""
    with pytest.raises(StreamRejected, match="goes on"):
        cut(tar_of({"./a": b"1"}) * 2)


def test_what_is_no_tar_stream_is_refused() -> None:
    """An error message instead of a stream, say."""
    with pytest.raises(StreamRejected):
        cut(b"tar: cannot open: No such file or directory\n".ljust(20_480, b"!"))


def test_an_empty_archive_is_one_chunk() -> None:
    """I10: a stream of no members is whole."""
    chunks, seen = cut(tar_of({}))
    assert len(chunks) == 1
    assert not seen


def test_members_are_listed_in_stream_order() -> None:
    """Members are reported in the order of the stream."""
    _, seen = cut(tar_of(MIXED))
    offsets = [offset for _, offset, *_ in seen]
    assert offsets == sorted(offsets)
