"""What `init` finds out about a storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backupd.errors import StorageError
from backupd.storage.base import Buffer, ObjectInfo
from backupd.storage.memory import MemoryStorage
from backupd.storage.probe import probe


class Replacing(MemoryStorage):
    """A store that ignores If-None-Match."""

    def put(self, key: str, data: Buffer) -> bool:
        self.delete(key)
        return super().put(key, data)


class Racy(MemoryStorage):
    """A store that looks and writes in two steps: of racing writers each is told that it was the first."""

    def put(self, key: str, data: Buffer) -> bool:
        stored = super().put(key, data)
        return stored or "/race" in key


class Late(MemoryStorage):
    """A store whose listings lag behind."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        listing = list(super().list(prefix))
        return iter(listing[:-1] if len(listing) > 1 else listing)


def test_sound_storage_passes_and_is_left_empty() -> None:
    """Nothing to warn of, nothing left."""
    storage = MemoryStorage()
    assert probe(storage) == []
    assert list(storage.list()) == []


def test_store_that_replaces_objects_is_refused() -> None:
    """R7: and the hint names the setting that makes it usable."""
    with pytest.raises(StorageError, match="replace") as caught:
        probe(Replacing())
    assert "s3.conditional_put" in (caught.value.hint or "")


def test_store_whose_put_is_not_atomic_is_recognised() -> None:
    """R7: usable, because nothing relies on it; but said."""
    [warning] = probe(Racy())
    assert "at once" in warning


def test_store_whose_listings_lag_is_refused() -> None:
    """R9: a collector would take a chunk for unneeded."""
    with pytest.raises(StorageError, match="does not list at once"):
        probe(Late())
