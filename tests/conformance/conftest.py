"""The storages that must keep the promise of `storage/base.py`: a new one adds its factory here."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backupd.rate import Rate
from backupd.storage.base import Storage
from backupd.storage.local import LocalStorage
from backupd.storage.memory import MemoryStorage
from backupd.storage.paced import PacedStorage
from backupd.storage.retry import RetryingStorage
from tests.faults import FaultyStorage
from tests.s3.account import Account

Factory = Callable[[Path], Storage]

FACTORIES: dict[str, Factory] = {
    "local": LocalStorage,
    "local, no room for two": lambda path: LocalStorage(path, uncommitted_bytes=1),
    "memory": lambda path: MemoryStorage(),
    "retrying memory": lambda path: RetryingStorage(MemoryStorage()),
    "paced memory": lambda path: PacedStorage(MemoryStorage(), Rate(1 << 40), lambda: None),
    "faulty without a fault": lambda path: FaultyStorage(MemoryStorage()),
}


S3_FACTORIES: dict[str, Callable[[Account], Storage]] = {
    "s3": lambda account: account.storage(),
    "paced retrying s3": lambda account: PacedStorage(
        RetryingStorage(account.storage()), Rate(1 << 40), lambda: None
    ),
    "retrying faulty s3 with a prefix, in parts": lambda account: RetryingStorage(
        FaultyStorage(account.storage(f"host/{uuid.uuid4()}", bucket=account.shared, part_bytes=5 << 20))
    ),
}


@pytest.fixture(params=[*FACTORIES, *(pytest.param(name, marks=pytest.mark.s3) for name in S3_FACTORIES)])
def factory(request: pytest.FixtureRequest) -> Factory:
    if request.param in FACTORIES:
        return FACTORIES[request.param]
    account = request.getfixturevalue("account")
    return lambda path: S3_FACTORIES[request.param](account)


@pytest.fixture
def storage(factory: Factory, tmp_path: Path) -> Iterator[Storage]:
    with closing(factory(tmp_path)) as storage:
        yield storage
