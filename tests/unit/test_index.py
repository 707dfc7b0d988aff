"""The index: lines that are read back as the members they were."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import ObjectDamaged
from backupd.repository.stream import index
from backupd.repository.stream.tarstream import Member


@given(
    path=st.binary(min_size=1, max_size=300),
    target=st.binary(max_size=50),
    mtime=st.integers(-(2**60), 2**60),
)
def test_a_line_is_read_back_as_its_member(path: bytes, target: bytes, mtime: int) -> None:
    """I12: any bytes in a path, one line, valid JSON."""
    member = Member(path, "symlink", 5, 0o644, 1, 3_000_000_000, mtime, target, 1024, 0)
    line = index.encode(member, 2560, 4, 7, 1024)
    assert b"\n" not in line
    json.loads(line)
    entry = index.decode(line, key="k")
    assert (entry.path, entry.target, entry.mtime, entry.gid) == (path, target, mtime, 3_000_000_000)
    assert (entry.offset, entry.first, entry.last, entry.skip) == (2560, 4, 7, 1024)


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"path":1}', b'{"path_bytes":"\\u00e9"}', b"\xff"])
def test_a_strange_line_is_refused(line: bytes) -> None:
    """What is no member names the index it stands in."""
    with pytest.raises(ObjectDamaged, match="the-key"):
        index.decode(line, key="the-key")
