"""A user of an S3 server, with buckets and storages in them."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from backupd.storage.s3 import S3Storage, connect
from backupd.storage.s3options import S3Options

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


@dataclass(frozen=True)
class Keys:
    """What a user signs with."""

    user: str
    access_key: str
    secret_key: str


class Account:
    """Keys on a server, and what they open."""

    def __init__(self, endpoint: str, keys: Keys) -> None:
        self.endpoint = endpoint
        self.keys = keys
        self.client: S3Client = connect(self.options())

    def options(self, **changes: Any) -> S3Options:
        """Options with which a storage reaches the server."""
        options = S3Options(
            endpoint=self.endpoint,
            access_key=self.keys.access_key,
            secret_key=self.keys.secret_key,
        )
        return replace(options, **changes)

    @cached_property
    def shared(self) -> str:
        """A bucket in which storages have prefixes of their own."""
        return self.bucket()

    def bucket(self, prefix: str = "backupd-test") -> str:
        """The name of a new bucket."""
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return name

    def destroy(self, bucket: str) -> None:
        """Remove a bucket and what is in it: the server keeps it in memory."""
        with closing(self.storage(bucket=bucket)) as storage, ThreadPoolExecutor(16) as pool:
            list(pool.map(storage.delete, [info.key for info in storage.list()]))
        self.client.delete_bucket(Bucket=bucket)

    def storage(self, prefix: str = "", *, bucket: str | None = None, **more: Any) -> S3Storage:
        """A storage in a bucket, by default a new one; `more` is for the storage itself, or its options."""
        own = {name: more.pop(name) for name in ("part_bytes", "leftover") if name in more}
        return S3Storage(bucket or self.bucket(), prefix, self.options(**more), **own)
