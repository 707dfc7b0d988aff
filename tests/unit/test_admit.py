"""I14: what is hostile in a tar stream is rejected before tar sees it, and the rest passes unchanged."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.errors import StreamRejected
from backupd.operations.admit import Admission, admitted
from tests.streams import noise, tar_of

Entry = tuple[str, bytes, str]  # path, type, target


def archive(*entries: Entry, pax: dict[str, str] | None = None) -> bytes:
    """A tar stream of these members, with global pax headers if any."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers=pax or {}) as tar:
        for path, kind, target in entries:
            member = tarfile.TarInfo(path)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    return out.getvalue()


def passed(stream: bytes, piece: int = 10_000) -> bytes:
    """What the admission hands on of a stream that arrives in pieces."""
    return b"".join(admitted(pieces(stream, piece), Admission("s")))


def pieces(stream: bytes, size: int) -> Iterator[bytes]:
    """A stream cut anywhere."""
    yield from (stream[at : at + size] for at in range(0, len(stream), size))


FILE, LINK, HARD, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([("/etc/passwd", FILE, "")], "leads out"),
        ([("../passwd", FILE, "")], "leads out"),
        ([("./a/../../passwd", FILE, "")], "leads out"),
        ([("./a/..", DIR, "")], "leads out"),
        ([("./" + "long/" * 60 + "../x", FILE, "")], "leads out"),
        ([("./shadow", HARD, "/etc/shadow")], "leads out"),
        ([("./shadow", HARD, "../shadow")], "leads out"),
        ([("./a", LINK, "/etc"), ("./a/passwd", FILE, "")], "behind a link"),
        ([("./a", LINK, "b"), ("a//x/y", FILE, "")], "behind a link"),
        ([("./a", LINK, ".."), ("./b", HARD, "a/etc/shadow")], "behind a link"),
        ([("./a", LINK, "/etc"), ("./b", HARD, "./a"), ("./b/passwd", FILE, "")], "behind a link"),
        ([("./a", LINK, "/etc/passwd"), ("./a", FILE, "")], "there twice"),
        ([("./a", LINK, "/etc"), ("./a/", DIR, "")], "there twice"),
        ([("./v", b"V", "")], "no type"),
    ],
    ids=lambda value: str(value[-1][0])[-20:] if isinstance(value, list) else "",
)
def test_what_would_reach_outside_is_rejected(entries: list[Entry], reason: str) -> None:
    """I14: absolute paths, `..`, escapes by symbolic and hard links, entries in conflict."""
    before = [("./kept", FILE, "")]
    handed: list[bytes] = []
    stream = admitted(pieces(archive(*before, *entries), 512), Admission("s"))
    with pytest.raises(StreamRejected, match=reason):
        handed.extend(map(bytes, stream))
    last = entries[-1][0].encode()[:90]
    assert last not in b"".join(handed) or reason == "there twice"


def test_a_global_header_that_renames_what_follows_is_rejected() -> None:
    """I14: tar would take the path from it, and no check of single members would see that."""
    with pytest.raises(StreamRejected, match="global"):
        passed(archive(("./a", FILE, ""), pax={"path": "/etc/passwd"}))
    assert passed(archive(("./a", FILE, ""), pax={"comment": "harmless"}))


def test_members_after_the_end_are_rejected() -> None:
    """I14: some tars go on reading there."""
    with pytest.raises(StreamRejected, match="after its end"):
        passed(archive(("./a", FILE, "")) + archive(("/etc/passwd", FILE, "")))


def test_links_that_point_outside_are_no_escape() -> None:
    """`/var/run -> /run` is a link as any: it is made, and nothing is written through it."""
    stream = archive(("./run", LINK, "/run"), ("./up", LINK, "../../x"), ("./also", HARD, "./run"))
    assert passed(stream) == stream


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 5000) | st.just(70_000), max_size=12), piece=st.integers(100, 20_000))
def test_what_is_admitted_passes_unchanged(sizes: list[int], piece: int) -> None:
    """Any stream in pieces of any size, byte for byte."""
    names = [f"./{'deep/' * (number * 9)}{number}" for number in range(len(sizes))]
    stream = tar_of({name: noise(size, seed=size) for name, size in zip(names, sizes, strict=True)})
    assert passed(stream, piece) == stream
