"""The storage in a bucket: what is special about it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

from backupd.errors import StorageError, UsageError
from backupd.storage.location import advice, open_storage
from backupd.storage.probe import probe
from backupd.storage.retry import RetryingStorage
from backupd.storage.s3options import S3Options
from tests.s3.account import Account
from tests.s3.ceph import Ceph

pytestmark = pytest.mark.s3

GUIDE = Path(__file__).parents[2] / "docs/GUIDE.md"
ANYTHING = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
EXPIRE = {"ID": "all", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}


def test_a_real_server_passes_the_probe(account: Account) -> None:
    """Its conditional puts are exact, its listings current, and nothing is left."""
    storage = account.storage("p")
    assert probe(storage) == []
    assert list(storage.list()) == []


def test_bucket_without_versioning_is_warned_of(account: Account) -> None:
    """Until it has it."""
    bucket = account.bucket()
    location = f"s3://{bucket}/p"
    [warning] = advice(location, account.options())
    assert "no versioning" in warning
    account.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert advice(location, account.options()) == []


def test_store_without_conditions_is_asked_first(account: Account) -> None:
    """With `conditional_put` off an object is looked for, and left alone."""
    storage = account.storage(conditional_put=False)
    assert storage.put("a", b"first") is True
    assert storage.put("a", b"second") is False
    assert storage.get("a", limit_bytes=5) == b"first"


def test_objects_are_encrypted_by_the_server_as_told(account: Account) -> None:
    """With a key of the server's key store; a key that it does not have is an error."""
    storage = account.storage(sse="aws:kms", sse_key_id="test-key", part_bytes=5 << 20)
    storage.put("a", b"x")
    bucket = storage.location.removeprefix("s3://")
    assert account.client.head_object(Bucket=bucket, Key="a")["ServerSideEncryption"] == "aws:kms"
    assert storage.get("a", limit_bytes=1) == b"x"
    with pytest.raises(StorageError):
        account.storage(sse="aws:kms", sse_key_id="no-key").put("a", b"x")


def test_policies_of_the_guide_keep_backups_from_writers_and_pruners(ceph: Ceph, account: Account) -> None:
    """As they stand there: a backup works, a delete only for the pruner, and old versions stay whatever else
    either of them may do."""
    bucket = account.bucket()
    users = {name: Account(ceph.endpoint, ceph.user()) for name in ("writer", "pruner")}
    names = {f"user/db1-{name}": f"user/{each.keys.user}" for name, each in users.items()}
    mine, all_of = guide(
        {"my-backups": bucket, "111122223333": "", "user/pruner": names.pop("user/db1-pruner"), **names}
    )
    account.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    ceph.allow(users["writer"].keys, mine)
    mine["Statement"][0]["Action"].append("s3:DeleteObject")
    ceph.allow(users["pruner"].keys, mine)
    writer, pruner = (each.storage("db1", bucket=bucket) for each in users.values())
    assert writer.put("a", b"x") is True
    assert writer.put("a", b"y") is False
    assert writer.get("a", limit_bytes=1) == b"x"
    assert [info.key for info in writer.list()] == ["a"]
    assert writer.advice() == []
    with pytest.raises(StorageError, match="no right"):
        writer.delete("a")
    with pytest.raises(StorageError, match="no right"):
        users["writer"].storage("elsewhere", bucket=bucket).put("a", b"x")
    pruner.delete("a")
    assert not writer.exists("a")
    version = account.client.list_object_versions(Bucket=bucket)["Versions"][0]["VersionId"]
    for each in users.values():
        ceph.allow(each.keys, {"Version": "2012-10-17", "Statement": [ANYTHING]}, name="more")
        each.client.put_object(Bucket=bucket, Key="before", Body=b"")
    account.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(all_of))
    for each in users.values():
        for attack in attacks(each.client, bucket, version, json.dumps(all_of)):
            with pytest.raises(each.client.exceptions.ClientError, match="AccessDenied"):
                attack()
    kept = users["pruner"].client.get_object(Bucket=bucket, Key="db1/a", VersionId=version)["Body"]
    assert kept.read() == b"x"


def test_objects_are_kept_in_the_class_that_is_set(account: Account) -> None:
    """Small ones and those in parts; a class that the server does not have is an error before all."""
    storage = account.storage(storage_class="STANDARD", part_bytes=5 << 20)
    storage.put("small", b"x")
    storage.put_file("large", BytesIO(bytes(6 << 20)))
    bucket = storage.location.removeprefix("s3://")
    listed = account.client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [each["StorageClass"] for each in listed] == ["STANDARD"] * 2
    with pytest.raises(StorageError, match=r"InvalidArgument|InvalidStorageClass"):
        account.storage(storage_class="CHEAP").put("a", b"x")


def attacks(client: Any, bucket: str, version: str, policy: str) -> list[Callable[[], object]]:
    """What a thief of a user's keys would try."""
    suspended = {"Status": "Suspended"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("delete_object", {"Key": "db1/a", "VersionId": version}),
        ("put_bucket_versioning", {"VersioningConfiguration": suspended}),
        ("put_bucket_lifecycle_configuration", {"LifecycleConfiguration": {"Rules": [EXPIRE]}}),
        ("put_bucket_policy", {"Policy": policy}),
        ("delete_bucket_policy", {}),
    ]
    return [partial(getattr(client, name), Bucket=bucket, **words) for name, words in calls]


def guide(names: Mapping[str, str]) -> list[Any]:
    """The policies in the guide's section on ransomware, with other names."""
    section = GUIDE.read_text(encoding="utf-8").split("\n## Ransomware\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    for old, new in names.items():
        assert any(old in block for block in blocks)
        blocks = [block.replace(old, new) for block in blocks]
    return [json.loads(block) for block in blocks]


def test_location_in_s3_is_retried_and_named() -> None:
    """`open_storage` asks nobody yet."""
    storage = open_storage("s3://some-bucket/a/b/", S3Options(region="x", access_key="a", secret_key="b"))
    assert isinstance(storage, RetryingStorage)
    assert (storage.location, storage.concurrency) == ("s3://some-bucket/a/b", 16)
    assert "b'" not in repr(S3Options(secret_key="b'"))


@pytest.mark.parametrize(
    "location", ["s3:", "s3://", "s3:///p", "s3://b", "s3://bucket/../p", "s3://bu cket"]
)
def test_malformed_location_is_refused(location: str) -> None:
    """A mistake in the settings, told as one."""
    with pytest.raises(UsageError, match="not a location in S3"):
        open_storage(location, S3Options())


def test_boto3_is_imported_only_for_s3() -> None:
    """It would double the time that a command on a directory takes to start."""
    code = "import sys, backupd.wiring, backupd.cli.init; sys.exit('boto3' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
