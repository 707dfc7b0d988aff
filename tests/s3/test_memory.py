"""Memory of a backup to S3, where many requests are under way at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.s3.account import Account

pytestmark = pytest.mark.s3


@pytest.mark.parametrize(("count", "size"), [(27_000, 40_000), (256, 4 << 20)], ids=["small", "large"])
def test_a_backup_to_s3_takes_less_than_200_megabytes(account: Account, count: int, size: int) -> None:
    """I13: a GiB that does not compress, in chunks of 128 KiB and of megabytes, sixteen at once."""
    bucket = account.bucket()
    keys = {"AWS_ACCESS_KEY_ID": account.keys.access_key, "AWS_SECRET_ACCESS_KEY": account.keys.secret_key}
    environ = {**os.environ, **keys, "ENDPOINT": account.endpoint}
    command = [sys.executable, "-m", "tests.unit.memory_probe", f"s3://{bucket}/db1", str(count), str(size)]
    try:
        told = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environ).stdout
        assert int(told) < 200
    finally:
        account.destroy(bucket)
