"""Tar heads: what real tar writers write is understood, what is damaged is refused."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import StreamRejected
from backupd.repository.stream.tarstream import Member, is_trailer, padding, read_head
from tests.streams import tar_of


def members(stream: bytes) -> list[Member]:
    """Every member of a stream."""
    window, at, found = memoryview(stream), 0, []
    while not is_trailer(window, at):
        member = read_head(window, at)
        assert member is not None
        found.append(member)
        at += member.head_bytes + member.data_bytes + padding(member.data_bytes)
    return found


def stream_of(member: tarfile.TarInfo, *, kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A stream of one member without data."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind, errors="surrogateescape") as tar:
        tar.addfile(member)
    return out.getvalue()


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@given(
    name=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)
)
def test_any_name_is_read_as_its_bytes(kind: int, name: str) -> None:
    """I12: a path of any length and any characters comes out byte for byte."""
    name = "./" + name.strip("/") + "x"
    assert members(tar_of({name: b"1"}, kind=kind))[0].path == name.encode()


def test_a_name_that_is_not_utf8_is_read_as_its_bytes() -> None:
    """I12: names are bytes."""
    name = b"./caf\xe9\n".decode("utf-8", "surrogateescape")
    assert members(tar_of({name: b""}, kind=tarfile.GNU_FORMAT))[0].path == b"./caf\xe9\n"


@pytest.mark.parametrize("uid", [0, 1000, 2_097_151, 3_000_000_000])
@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_large_owners_are_read(kind: int, uid: int) -> None:
    """I12: user ids above what octal digits hold."""
    info = tarfile.TarInfo("a")
    info.uid = info.gid = uid
    member = members(stream_of(info, kind=kind))[0]
    assert (member.uid, member.gid) == (uid, uid)


def test_a_file_of_more_than_8_gib_has_its_size() -> None:
    """I12: sizes above what octal digits hold, in both formats."""
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        info = tarfile.TarInfo("big")
        info.size = 9 * 1024**3
        member = read_head(memoryview(info.tobuf(format=kind)), 0)
        assert member is not None
        assert member.data_bytes == 9 * 1024**3


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("12.000000001", 12_000_000_001), ("-1.5", -1_500_000_000), ("7", 7_000_000_000)],
)
def test_times_keep_their_nanoseconds(text: str, nanoseconds: int) -> None:
    """Times are not rounded to what a float holds."""
    info = tarfile.TarInfo("a")
    info.pax_headers = {"mtime": text}
    assert members(stream_of(info))[0].mtime == nanoseconds


def test_a_sparse_file_has_its_real_name_and_size() -> None:
    """A GNU sparse file in pax format counts what a reader sees, and knows what is stored."""
    info = tarfile.TarInfo("./GNUSparseFile.1/f")
    info.size = 512
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "./f", "GNU.sparse.realsize": "1000000"}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(info, io.BytesIO(bytes(512)))
    member = members(out.getvalue())[0]
    assert (member.path, member.size, member.data_bytes) == (b"./f", 1_000_000, 512)


def test_links_have_targets_and_no_data() -> None:
    """Links of both kinds."""
    for kind, name in ((tarfile.SYMTYPE, "symlink"), (tarfile.LNKTYPE, "hardlink")):
        info = tarfile.TarInfo("a")
        info.type, info.linkname = kind, "t" * 150
        member = members(stream_of(info))[0]
        assert (member.type, member.target, member.data_bytes) == (name, b"t" * 150, 0)


@given(position=st.integers(0, 511), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_header_is_refused_or_harmless(position: int, bit: int) -> None:
    """The header's checksum is checked: a flipped bit never goes unnoticed where it counts."""
    block = bytearray(tar_of({"name": b"x"}, kind=tarfile.USTAR_FORMAT)[:512])
    before = read_head(memoryview(bytes(block)), 0)
    block[position] ^= 1 << bit
    try:
        after = read_head(memoryview(block), 0)
    except StreamRejected:
        return
    assert 148 <= position < 156, "only the checksum's own padding may differ"
    assert after == before


def test_a_head_that_is_not_all_there_is_waited_for() -> None:
    """Half a head is no error: more may come."""
    stream = memoryview(tar_of({"n" * 200: b"x"}))
    for length in (0, 100, 512, 1024, 1535):
        assert read_head(stream[:length], 0) is None
    assert read_head(stream[:1536], 0) is not None


@pytest.mark.parametrize("body", [b"3 a\n", b"999 path=x\n", b"x path=x\n", b"9 path=xy"])
def test_a_malformed_pax_header_is_refused(body: bytes) -> None:
    """A pax record that lies about its length."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(body)
    stream = info.tobuf(format=tarfile.USTAR_FORMAT) + body.ljust(512, b"\0") + tar_of({"a": b""})
    with pytest.raises(StreamRejected, match="pax"):
        read_head(memoryview(stream), 0)


def test_a_head_without_end_is_refused() -> None:
    """A head that claims gigabytes is not collected in memory."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1024**3
    with pytest.raises(StreamRejected, match="larger"):
        read_head(memoryview(info.tobuf(format=tarfile.GNU_FORMAT)), 0)
