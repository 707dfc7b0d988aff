"""The storages that must keep the promise of `storage/base.py`: a new one adds its factory here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backupd.storage.base import Storage
from backupd.storage.local import LocalStorage
from backupd.storage.memory import MemoryStorage
from tests.faults import FaultyStorage

Factory = Callable[[Path], Storage]

FACTORIES: dict[str, Factory] = {
    "local": LocalStorage,
    "local, no room for two": lambda path: LocalStorage(path, uncommitted_bytes=1),
    "memory": lambda path: MemoryStorage(),
    "faulty without a fault": lambda path: FaultyStorage(MemoryStorage()),
}


@pytest.fixture(params=FACTORIES.values(), ids=FACTORIES.keys())
def factory(request: pytest.FixtureRequest) -> Factory:
    return request.param


@pytest.fixture
def storage(factory: Factory, tmp_path: Path) -> Iterator[Storage]:
    with closing(factory(tmp_path)) as storage:
        yield storage
