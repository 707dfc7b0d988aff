"""Which snapshot a person means."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from backupd.errors import SnapshotNotFound
from backupd.repository import Repository
from backupd.storage.memory import MemoryStorage
from tests.streams import save, tar_of


@pytest.fixture
def several() -> Repository:
    """Two volumes, two hosts, four snapshots."""
    repository = Repository.init(MemoryStorage())
    for host, volume, snapshot in (
        ("a", "db", "20260101T000000Z-aaaa"),
        ("a", "db", "20260102T000000Z-bbbb"),
        ("a", "uploads", "20260102T000000Z-cccc"),
        ("b", "uploads", "20260103T000000Z-dddd"),
    ):
        save(repository, tar_of({}), host=host, volume=volume, snapshot=snapshot)
    return repository


def test_latest_is_the_newest(several: Repository) -> None:
    """Of one volume of one host."""
    assert several.find("db").snapshot == "20260102T000000Z-bbbb"
    assert several.find("uploads", host="a").snapshot == "20260102T000000Z-cccc"


def test_the_newest_of_a_volume_without_snapshots_is_none(several: Repository) -> None:
    """And with some it is the one that `find` calls latest, by id and whole."""
    assert several.latest("a", "nothing") is None
    assert several.latest_id("a", "nothing") is None
    assert several.latest("a", "db") == several.find("db")
    assert several.latest_id("a", "db") == several.find("db").snapshot


def test_at_a_time_is_the_newest_not_later(several: Repository) -> None:
    """To the second, inclusive."""
    assert several.find("db", at=datetime(2026, 1, 2, tzinfo=UTC)).snapshot.endswith("bbbb")
    assert several.find("db", at=datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC)).snapshot.endswith("aaaa")
    with pytest.raises(SnapshotNotFound, match="20260101T000000Z-aaaa"):
        several.find("db", at=datetime(2025, 12, 31, tzinfo=UTC))


def test_a_prefix_of_an_id_is_enough_where_it_is_unique(several: Repository) -> None:
    """An ambiguous one names the candidates."""
    assert several.find(None, "20260103").host == "b"
    with pytest.raises(SnapshotNotFound, match=r"bbbb.*cccc"):
        several.find(None, "20260102")


def test_an_unknown_id_or_volume_names_the_nearest(several: Repository) -> None:
    """I20: a misspelt name."""
    with pytest.raises(SnapshotNotFound) as caught:
        several.find("uplods")
    assert "uploads" in str(caught.value.hint)
    with pytest.raises(SnapshotNotFound) as caught:
        several.find(None, "20260103T000000Z-dddx")
    assert "20260103T000000Z-dddd" in str(caught.value.hint)


def test_two_hosts_with_one_volume_name_must_be_told_apart(several: Repository) -> None:
    """Nothing is guessed where a wrong guess restores another host's data."""
    with pytest.raises(SnapshotNotFound, match=r"a \(uploads\), b \(uploads\)"):
        several.find("uploads")
    with pytest.raises(SnapshotNotFound) as caught:
        several.find("db", host="b")
    assert "--host a" in str(caught.value.hint)


def test_one_unreadable_manifest_does_not_hide_the_others(several: Repository) -> None:
    """At 3 a.m. the list must come."""
    several.storage.put("snapshots/a/db/20260104T000000Z-eeee.json", b"{")
    several.storage.flush()
    errors: list[str] = []
    found = several.snapshots("a", "db", damaged=lambda error: errors.append(error.message))
    assert [manifest.snapshot[-4:] for manifest in found] == ["aaaa", "bbbb"]
    assert "20260104T000000Z-eeee" in errors[0]
