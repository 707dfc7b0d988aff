"""The walk in C does what the walk in Python does, whatever bytes it is given."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from backupd.errors import StreamRejected
from backupd.repository.stream import walk
from backupd.repository.stream.chunker import Cutter
from backupd.repository.stream.tarstream import BLOCK
from backupd.repository.stream.walk import GROUP_MAX, KIB, LARGE, Listing, Walk, walk_native, walk_python
from tests.streams import noise, tar_of
from tests.vectors.make import noise_stream, tree

CC = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
BUILDABLE = bool(shutil.which(CC)) and Path(sysconfig.get_path("include"), "Python.h").exists()
needs_native = pytest.mark.skipif(not BUILDABLE and walk.native is None, reason="the walk in C is not built")

Outcome = tuple[list[int], bytes, dict[str, int], int, str]

NUMBERS = [
    b"0000644\0", b"644", b"   644 \0", b"", b"\0\0\0\0\0\0\0", b"7777777", b"77777777", b"-1", b"+7",
    b"0o17", b"1_0", b"9", b"12\x003", b"\t17", b"\x80" + bytes(6) + b"\x05", b"\x80" + b"\xff" * 11,
    b"\x80\0\0\0\x7f" + b"\xff" * 7, b"\xff" * 12, b"\xff" * 4 + bytes(8), b"\xff" * 5 + b"\x80" + bytes(6),
    b"\xff" + bytes(11), b"\xff\xfe", b"\x81", b"00000001000", b"00000777777", b"00001000000", b"77777777777",
]  # fmt: skip
"""What may stand in a header's field, well or badly."""

VALUES = [
    b"0", b"1", b"512", b"262143", b"262144", b"9223372036854775807", b"9223372036854775808",
    b"99999999999999999999", b"999999999999999999999", b"", b"-1", b"--1", b"1.5", b"-1.5", b".5", b"7.",
    b"1.0000000001", b"1.12345678x", b"1.123456789x", b"9000000001", b"9999999999.9", b"-9999999999.9",
    b"1e3", b" 1", b"1 ", b"\xd9\xa1", b"1_0", b"./caf\xe9", "./café\U0001f600\u2028".encode(), b"a\0b",
    b'"\\\x7f\x1f\n\r\t\f\b/', b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"=", b"x=y",
]  # fmt: skip
"""What may stand in a pax record."""

MALFORMED = [
    b"3 a\n",
    b"999 path=x\n",
    b"x path=x\n",
    b"9 path=xy",
    b" 9 a=bcd\n",
    b"+8 a=bc\n",
    b"0 \n",
    b"2 ",
]
"""Bodies of pax headers that are none, or that only some readers understand."""

MAGICS = [b"ustar\x0000", b"ustar  \0", b"", b"ustar"]

KEYS = [
    b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"GNU.sparse.name", b"GNU.sparse.realsize",
    b"GNU.sparse.size", b"SCHILY.xattr.user.x", b"", b"pathx", b"pat",
]  # fmt: skip

FIELDS = {
    "mode": (100, 8),
    "uid": (108, 8),
    "gid": (116, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "kind": (156, 1),
    "magic": (257, 8),
    "prefix": (345, 155),
    "name": (0, 100),
    "link": (157, 100),
    "sum": (148, 8),
}


def outcome(stream: bytes, how: Walk, piece: int | None = None) -> Outcome:
    """All that cutting this stream does: ends, lines, counts, sum of sizes, and the refusal, if any."""
    total = Listing()
    lines: list[bytes] = []

    def listed(listing: Listing) -> None:
        lines.append(listing.lines)
        total.counts += listing.counts
        total.content_bytes += listing.content_bytes

    cutter = Cutter(listed, how)
    ends: list[int] = []
    start = filled = 0
    try:
        while filled < len(stream):
            filled = min(len(stream), filled + (piece or len(stream)))
            base = start
            for end in cutter.cut(memoryview(stream)[base:filled], last=filled == len(stream)):
                start = base + end
                ends.append(start)
    except StreamRejected as error:
        return [], b"", {}, 0, f"{type(error)} {error} {error.hint}"  # what came before it, nobody keeps
    return ends, b"".join(lines), dict(total.counts), total.content_bytes, ""


def same(stream: bytes, piece: int | None = None) -> Outcome:
    """The outcome of a stream, which must be the same for both walks."""
    native, python = outcome(stream, walk_native, piece), outcome(stream, walk_python, piece)
    assert native == python
    return native


def with_sum(header: bytes) -> bytes:
    """The header with the checksum it should have."""
    total = sum(header[:148]) + 8 * 32 + sum(header[156:])
    return header[:148] + b"%06o\0 " % total + header[156:]


def head(kind: bytes, length: int, /, **fields: bytes) -> bytearray:
    """A header block."""
    block = bytearray(tarfile.TarInfo("./name").tobuf(tarfile.USTAR_FORMAT))
    for name, value in ({"kind": kind, "size": b"%011o" % length} | fields).items():
        at, room = FIELDS[name]
        block[at : at + room] = value[:room].ljust(room, b"\0")
    return block if "sum" in fields else bytearray(with_sum(bytes(block)))


def record(key: bytes, value: bytes) -> bytes:
    """A pax record."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while length != len(b"%d" % length + body):
        length += 1
    return b"%d" % length + body


def filled(body: bytes) -> bytes:
    """A body with what makes it whole blocks."""
    return body + bytes(-len(body) % BLOCK)


texts = st.one_of(st.sampled_from(VALUES), st.binary(max_size=300), st.text(max_size=120).map(str.encode))
numbers = st.one_of(st.sampled_from(NUMBERS), st.binary(max_size=12))
records = st.lists(st.tuples(st.sampled_from(KEYS), texts), max_size=5).map(
    lambda pairs: b"".join(record(key, value) for key, value in pairs)
)
bodies = st.one_of(
    records,
    st.tuples(records, st.binary(max_size=20)).map(b"".join),
    st.sampled_from(MALFORMED),
)
fields = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("mode", "uid", "gid", "mtime", "size"), numbers),
        **dict.fromkeys(("name", "link", "prefix"), texts),
        "magic": st.sampled_from(MAGICS),
        "sum": numbers,
    },
)


@st.composite
def members(draw: st.DrawFn) -> bytes:
    """A member as a tar writer, a bad one, or an attacker would write it."""
    parts = []
    for kind in draw(st.lists(st.sampled_from([b"x", b"g", b"L", b"K"]), max_size=3)):
        body = draw(bodies if kind in b"xg" else texts)
        parts += [head(kind, len(body)), filled(body)]
    size = draw(st.sampled_from([0, 0, 1, 511, 512, 40 * KIB, 100 * KIB, LARGE - 1, LARGE, 3 * LARGE]))
    kind = draw(
        st.sampled_from([b"0", b"0", b"0", b"\0", b"7", b"1", b"2", b"3", b"4", b"5", b"6", b"S", b"\xff"])
    )
    ordinary = {} if draw(st.booleans()) else draw(fields)
    name = {"name": draw(texts)} if draw(st.booleans()) else {}
    parts.append(head(kind, size, **(name | ordinary)))
    if kind in (b"0", b"\0", b"7", b"S", b"\xff"):
        parts.append(filled(b"data" * (size // 4) + b"d" * (size % 4)))
    return b"".join(parts)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Members, some of their bytes changed, and the end of an archive or not."""
    stream = bytearray(
        b"".join(draw(st.lists(members(), max_size=12))) + bytes(draw(st.sampled_from([0, 512, 1024, 4096])))
    )
    for at, byte in draw(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=3)):
        at %= len(stream) or 1
        if stream:
            stream[at] = byte
            if draw(st.booleans()) and at - at % BLOCK + BLOCK <= len(stream):
                at -= at % BLOCK
                stream[at : at + BLOCK] = with_sum(bytes(stream[at : at + BLOCK]))
    return (
        bytes(stream[: draw(st.integers(0, len(stream)))]) if draw(st.integers(0, 9)) == 0 else bytes(stream)
    )


def test_the_extension_is_there_wherever_it_can_be_built() -> None:
    """A build that silently gives the slow walk would never be noticed."""
    assert walk.native or not BUILDABLE, "`make venv` builds it; without -q pip says what went wrong"
    assert walk.walk is (walk_native if walk.native else walk_python)


@needs_native
@settings(max_examples=int(os.environ.get("WALK_EXAMPLES", "400")), deadline=None)
@given(stream=streams(), piece=st.one_of(st.none(), st.integers(1, 700_000)))
def test_both_walks_do_the_same_with_any_bytes(stream: bytes, piece: int | None) -> None:
    """I12, I14: cuts, index, counts and refusals are the same, however the stream is mutated and arrives."""
    assume(stream)
    same(stream, piece and max(piece, len(stream) // 50 + 1))


@needs_native
@settings(deadline=None)
@given(
    path=st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode), st.sampled_from(VALUES))
)
@example(bytes(range(1, 128)))
@example("".join(map(chr, (0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF))).encode())
def test_any_path_and_target_give_the_same_line(path: bytes) -> None:
    """I12: JSON escapes and base64 alike, at every length."""
    body = record(b"path", path) + record(b"linkpath", path[::-1])
    stream = head(b"x", len(body)) + filled(body) + head(b"2", 0) + bytes(1024)
    _, lines, counts, _, refusal = same(stream)
    assert (counts, refusal) == ({"symlink": 1}, "")
    json.loads(lines)


@needs_native
@pytest.mark.parametrize("name", ["mode", "uid", "gid", "mtime", "size", "sum"])
def test_any_number_in_a_field_is_read_or_refused_alike(name: str) -> None:
    """Octal, base-256, negative, overlong, malformed."""
    for value in NUMBERS:
        same(bytes(head(b"5", 0, **{name: value})) + bytes(1024))
        same(bytes(head(b"0", 0, **{name: value})) + bytes(LARGE + 2048))


@needs_native
@pytest.mark.parametrize("key", KEYS)
def test_any_pax_record_is_read_or_refused_alike(key: bytes) -> None:
    """Values of every key, also where an earlier one of the same key said otherwise."""
    for value in VALUES:
        body = record(key, b"7") + record(key, value) + record(b"path", b"./path")
        same(bytes(head(b"x", len(body))) + filled(body) + bytes(head(b"0", 0)) + bytes(LARGE + 2048))


@needs_native
def test_malformed_records_are_read_or_refused_alike() -> None:
    """At the beginning of a pax header, after a good record, and in a global one."""
    for kind in (b"x", b"g"):
        for body in (*MALFORMED, *(record(b"uid", b"5") + body for body in MALFORMED)):
            same(bytes(head(kind, len(body))) + filled(body) + bytes(head(b"0", 0)) + bytes(2048))


@needs_native
@pytest.mark.parametrize("magic", MAGICS)
@pytest.mark.parametrize("prefix", [b"", b"a", b"p" * 155])
@pytest.mark.parametrize("name", [b"", b"n", b"n" * 100])
def test_names_in_two_parts_are_joined_alike(magic: bytes, prefix: bytes, name: bytes) -> None:
    """The prefix counts in ustar headers alone: elsewhere other things stand there."""
    assert not same(bytes(head(b"0", 0, magic=magic, prefix=prefix, name=name)) + bytes(2048))[4]


@needs_native
@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_real_streams_are_walked_in_c(kind: int) -> None:
    """What tar writes is taken by the walk in C itself, and not left to Python."""
    names = [f"./{'d' * (40 if kind == tarfile.USTAR_FORMAT else 120)}/{number:03}" for number in range(200)]
    stream = tar_of({name: noise(3000) for name in names}, kind=kind)
    assert walk.native is not None
    _, _, _, lines, counts, content = walk.native(memoryview(stream), 0, 0, 0, 0)
    assert (lines.count(b"\n"), sum(counts), content) == (200, 200, 600_000)
    assert same(stream)[1] == lines


@needs_native
@pytest.mark.parametrize("piece", [None, 700_001])
def test_the_vectors_streams_are_walked_alike(piece: int | None) -> None:
    """The streams whose cuts are pinned."""
    for stream in (tar_of(tree()), noise_stream()):
        assert not same(stream, piece and len(stream) // 30)[4]


@needs_native
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_groups_are_full_at_the_same_byte(extra: int) -> None:
    """Members that never close a group themselves fill it exactly, and by a block more or less."""
    names = (b"./%d" % number for number in range(3000))
    open_ended = [name for name in names if not walk.closes_group(name, BLOCK)]
    blocks = [bytes(head(b"5", 0, name=name)) for name in open_ended[:2500]]
    first = bytes(head(b"0", (200 + extra) * BLOCK, name=b"./first")) + bytes((200 + extra) * BLOCK)
    ends = same(b"".join(blocks[:30]) + first + b"".join(blocks[30:]) + bytes(1024))[0]
    assert GROUP_MAX in (ends[1] - ends[0], ends[2] - ends[1])


@needs_native
def test_paths_of_any_length_close_groups_alike() -> None:
    """The hash of a path, also where its length or its padding just fits into a block of the hash."""
    lengths = [*range(45, 65), *range(110, 125)] * 4
    bodies = [record(b"path", b"%04d" % number + b"p" * length) for number, length in enumerate(lengths)]
    data = bytes(head(b"0", 33 * KIB)) + bytes(33 * KIB)
    same(b"".join(bytes(head(b"x", len(body))) + filled(body) + data for body in bodies) + bytes(1024))


@needs_native
def test_sparse_members_are_walked_in_c() -> None:
    """GNU sparse files in pax format: real name, real size, and the data that is there."""
    info = tarfile.TarInfo("./GNUSparseFile.0/f")
    info.size = 1024
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "./f", "GNU.sparse.realsize": "1000000"}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(info, io.BytesIO(bytes(1024)))
    _, lines, _, content, _ = same(out.getvalue())
    assert (json.loads(lines)["path"], content) == ("./f", 1_000_000)


@pytest.mark.parametrize("kind", [b"0", b"x", b"L"])
@pytest.mark.parametrize("how", [walk_python, pytest.param(walk_native, marks=needs_native)])
def test_a_negative_size_is_refused(how: Walk, kind: bytes) -> None:
    """A head that leads back to itself would be walked for ever."""
    stream = bytes(head(kind, 0, size=b"\xff" * 10 + b"\xfe\x00")) + bytes(1024)
    assert "where a size belongs" in outcome(stream, how)[4]


@needs_native
@pytest.mark.parametrize(
    "arguments", [(-1, 0, 0, 0), (0, -1, 0, 0), (513, 0, 0, 0), (0, 2**63 - 1, 0, 0), (2**70, 0, 0, 0)]
)
def test_the_extension_refuses_what_is_no_place_in_the_window(arguments: Any) -> None:
    """No argument reaches beyond the memory that was handed over."""
    assert walk.native is not None
    with pytest.raises((ValueError, OverflowError)):
        walk.native(memoryview(bytes(512)), *arguments)
