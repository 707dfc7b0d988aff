"""The S3 server that tests share: it starts with the first test that asks for it, and ends with the last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3.account import Account
from tests.s3.ceph import Ceph
from tests.s3.fetched import fetch

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("TESTS_CACHE") or HERE.parent / ".cache")


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A running server."""
    if not fetch("fetch"):
        pytest.skip("Ceph cannot be had on this machine: what tests/s3/fetch says")
    with Ceph(CACHE / "ceph", tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture(scope="session")
def account(ceph: Ceph) -> Account:
    """A user of the server, who has as many buckets as tests need."""
    return Account(ceph.endpoint, ceph.user("--max-buckets=0"))
