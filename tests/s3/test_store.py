"""The storage in a bucket: what is special about it."""

from __future__ import annotations

import json
import sys
from subprocess import run

import pytest

from backupd.errors import StorageError, UsageError
from backupd.storage.location import advice, open_storage
from backupd.storage.probe import probe
from backupd.storage.retry import RetryingStorage
from backupd.storage.s3options import S3Options
from tests.s3.account import Account
from tests.s3.ceph import Ceph

pytestmark = pytest.mark.s3


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


def test_writer_cannot_destroy_what_it_has_written(ceph: Ceph, account: Account) -> None:
    """The policies of the guide: a writer backs up, its delete is denied, old versions stay for both."""
    bucket = account.bucket()
    writer = Account(ceph.endpoint, ceph.user())
    who = {"AWS": f"arn:aws:iam:::user/{writer.keys.user}"}
    own, all_of_it = f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"
    put = ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"]
    look = ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketVersioning"]
    statements = [
        {"Effect": "Allow", "Principal": who, "Action": put, "Resource": all_of_it},
        {"Effect": "Allow", "Principal": who, "Action": look, "Resource": own},
        {"Effect": "Deny", "Principal": who, "Action": ["s3:DeleteObjectVersion"], "Resource": all_of_it},
    ]
    policy = {"Version": "2012-10-17", "Statement": statements}
    account.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    account.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    storage = writer.storage(bucket=bucket)
    assert storage.put("a", b"x") is True
    assert storage.put("a", b"y") is False
    assert storage.get("a", limit_bytes=1) == b"x"
    assert storage.advice() == []
    with pytest.raises(StorageError, match="no right"):
        storage.delete("a")
    version = account.client.list_object_versions(Bucket=bucket)["Versions"][0]["VersionId"]
    with pytest.raises(writer.client.exceptions.ClientError, match="AccessDenied"):
        writer.client.delete_object(Bucket=bucket, Key="a", VersionId=version)


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
