"""A store whose conditional puts are not atomic is recognised, and a repository lives there all the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest

from backupd.repository import Repository
from backupd.storage.probe import probe
from backupd.storage.retry import RetryingStorage
from tests.s3.account import Account
from tests.s3.fetched import fetch
from tests.s3.swift import Swift
from tests.streams import load, noise, save, tar_of

pytestmark = pytest.mark.s3

CACHE = Path(os.environ.get("TESTS_CACHE") or Path(__file__).parents[2] / ".cache")


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account on a running Swift."""
    if not fetch("fetch-swift"):
        pytest.skip("Swift cannot be had on this machine: what tests/s3/fetch-swift says")
    with Swift(CACHE / "swift", tmp_path_factory.mktemp("swift")) as server:
        yield Account(server.endpoint, server.keys)


def test_store_that_is_not_atomic_is_recognised(weak: Account) -> None:
    """Several of those that race for a key are told that they were first; nothing else is wrong with it."""
    storage = weak.storage("p")
    found = next(filter(None, (probe(storage) for _ in range(10))))
    assert "were told that they were the first" in found[0]
    assert list(storage.list()) == []


def test_repository_lives_in_a_store_without_conditions(weak: Account) -> None:
    """With `conditional_put` off: two snapshots, the second of them stores nothing, both come back."""
    with closing(RetryingStorage(weak.storage("host/db1", conditional_put=False))) as storage:
        repository = Repository.init(storage)
        stream = tar_of({"large": noise(9 << 20), **{f"{number}": noise(5000) for number in range(20)}})
        first, second = save(repository, stream), save(repository, stream)
        assert second.bytes.stored == 0
        for manifest in (first, second):
            assert load(repository, manifest) == stream
        assert [each.snapshot for each in repository.snapshots()] == [first.snapshot, second.snapshot]


@pytest.mark.parametrize("conditional_put", [True, False])
def test_large_objects_are_never_replaced_there(weak: Account, conditional_put: bool) -> None:
    """In parts, with and without conditions."""
    storage = weak.storage(part_bytes=5 << 20, conditional_put=conditional_put)
    first = noise(11 << 20)
    assert storage.put_file("a", BytesIO(first)) is True
    assert storage.put_file("a", BytesIO(noise(6 << 20, seed=1))) is False
    assert storage.get("a", limit_bytes=len(first)) == first
