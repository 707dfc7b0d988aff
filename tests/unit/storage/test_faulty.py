"""The storage that fails on demand does fail as it was told."""

from __future__ import annotations

import pytest

from backupd.errors import ObjectNotFound, StorageFull
from backupd.storage.memory import MemoryStorage
from tests.faults import Crash, FaultyStorage


def test_crash_comes_before_the_call_and_stays() -> None:
    """The n-th call does not reach the storage, nor does any after it; what was not flushed may be lost."""
    inner = MemoryStorage()
    storage = FaultyStorage(inner, crash_before=3)
    storage.put("a", b"")
    storage.flush()
    storage.put("b", b"")
    for _ in range(2):
        with pytest.raises(Crash):
            storage.flush()
    inner.crash()
    assert inner.exists("a")
    assert not inner.exists("b")
    assert storage.calls == ["put a", "flush", "put b", "flush", "flush"]


def test_crash_may_spare_unflushed_objects() -> None:
    """Any part of what was not flushed may have reached the disk."""
    storage = MemoryStorage()
    storage.put("a", b"")
    storage.put("b", b"")
    storage.crash(lambda key: key == "b")
    assert [info.key for info in storage.list()] == ["b"]


def test_chosen_call_fails_and_the_next_works() -> None:
    """A failure is raised in place of the call, by number or by what the call is."""
    full = StorageFull("no room left")
    storage = FaultyStorage(
        MemoryStorage(), fail_at={0: full}, fail_when=lambda call: full if call == "put x" else None
    )
    with pytest.raises(StorageFull):
        storage.put("a", b"")
    assert storage.put("a", b"") is True
    with pytest.raises(StorageFull):
        storage.put("x", b"")


def test_damage_shows_in_get_and_open() -> None:
    """One bit, a cut, or nothing at all: the stored object itself stays as it is."""
    inner = MemoryStorage()
    storage = FaultyStorage(inner)
    storage.put("a", b"\x00\x00\x00")
    storage.flip_bit("a", 9)
    assert storage.get("a", limit_bytes=3) == b"\x00\x02\x00"
    storage.truncate("a", 2)
    with storage.open("a") as file:
        assert file.read() == b"\x00\x00"
    storage.hide("a")
    assert not storage.exists("a")
    with pytest.raises(ObjectNotFound):
        storage.get("a", limit_bytes=3)
    assert inner.get("a", limit_bytes=3) == b"\x00\x00\x00"
    assert storage.put("a", b"new") is True
    assert storage.exists("a")
