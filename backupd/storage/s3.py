"""A repository in a bucket of S3, or of a server that speaks its protocol."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from datetime import UTC, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.handlers import add_expect_header
from botocore.loaders import create_loader
from botocore.response import StreamingBody
from botocore.session import Session

from backupd.errors import ObjectDamaged, ObjectNotFound, StorageError
from backupd.storage.allocator import give_back_large_blocks
from backupd.storage.base import Buffer, ObjectInfo, check_range, ends_early
from backupd.storage.keys import check_key, is_key
from backupd.storage.s3errors import SET_UP, s3_errors, status_of, stored_unless_taken
from backupd.storage.s3options import S3Options
from backupd.storage.s3upload import Upload, abort_leftovers

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from types_boto3_s3.client import S3Client

PART_BYTES = 16 << 20
"""What is larger goes in parts of this size: 10,000 of them at most, so 160 GB."""

LEFTOVER = timedelta(days=1)
CONNECT_SECONDS = 10
READ_SECONDS = 60

_DESCRIPTIONS = create_loader()


class S3Storage:
    """Keeps each object under `prefix/key` in a bucket.

    A put carries `If-None-Match: *`: the server itself refuses to replace an object. Some servers look and
    write in two steps, so of two that race the later may win there; keys name their content or are unique,
    so both have put the same. For servers that ignore the header altogether see `S3Options`.

    S3 has an object the moment its put has returned, so `flush` has nothing to do. Nothing is tried twice in
    here: `RetryingStorage` does that, with one deadline over all.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        options: S3Options,
        *,
        part_bytes: int = PART_BYTES,
        leftover: timedelta = LEFTOVER,
    ) -> None:
        self.location = f"s3://{bucket}/{prefix}".rstrip("/")
        self.concurrency = options.connections
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._options = options
        self._part_bytes = part_bytes
        self._leftover: timedelta | None = leftover
        self._lock = threading.Lock()
        give_back_large_blocks()
        with s3_errors("set up the client", self.location, SET_UP):
            self._client = connect(options)

    def put(self, key: str, data: Buffer) -> bool:
        target = self._target(key)
        if not self._options.conditional_put and self.exists(key):
            return False
        body = bytes(data)
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        how = self._kept_as | self._condition
        with self._errors(f"store {key}"):
            return stored_unless_taken(
                lambda: self._client.put_object(**target, Body=body, ChecksumSHA256=checksum, **how)
            )

    def put_file(self, key: str, file: BinaryIO) -> bool:
        block = _block(file, self._part_bytes)
        if len(block) < self._part_bytes:
            return self.put(key, block)
        self._abort_leftovers()
        if self.exists(key):
            return False
        errors = partial(self._errors, f"store {key}")
        with Upload(self._client, self._target(key), self._kept_as, errors) as upload:
            while block:
                upload.add(block)
                block = _block(file, self._part_bytes)
            return upload.complete(self._condition)

    def flush(self) -> None:
        pass

    def exists(self, key: str) -> bool:
        target = self._target(key)
        with self._errors(f"look for {key}"):
            try:
                self._client.head_object(**target)
            except ClientError as error:
                if status_of(error) == 404:
                    return False
                if status_of(error) >= 500:
                    raise
                # What answers a HEAD has no room for a reason; the answer to this has.
                self._client.get_object(**target, Range="bytes=0-0")["Body"].close()
        return True

    def get(self, key: str, *, limit_bytes: int) -> bytes:
        body, size = self._get(key)
        with self._errors(f"read {key}"):
            try:
                if size > limit_bytes:
                    raise ObjectDamaged(f"{key} has {size} bytes where at most {limit_bytes} are expected")
                return body.read()
            finally:
                body.close()

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        check_range(offset, length)
        try:
            body, size = self._get(key, Range=f"bytes={offset}-{offset + length - 1}")
        except _BeyondTheEnd:
            raise ends_early(key, offset, length) from None
        with closing(body), self._errors(f"read {key}"):
            if size < length:
                raise ends_early(key, offset, length)
            if size > length:
                raise StorageError(
                    f"{self.location} sends all of an object when asked for a part",
                    hint="backupd needs a server that knows the Range header of HTTP",
                )
            return body.read()

    def open(self, key: str) -> BinaryIO:
        body, _ = self._get(key)
        return cast(BinaryIO, io.BufferedReader(_Body(body, partial(self._errors, f"read {key}"))))

    def advice(self) -> list[str]:
        """What would make this bucket safer for backups."""
        try:
            with self._errors("ask for versioning"):
                status = self._client.get_bucket_versioning(Bucket=self._bucket).get("Status")
        except StorageError as error:
            return [f"whether the bucket keeps old versions could not be found out: {error.message}"]
        if status == "Enabled":
            return []
        return [
            f"bucket {self._bucket} has no versioning: whoever holds these keys can destroy every backup for"
            " good; docs/GUIDE.md, section Ransomware, says what to do"
        ]

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        last = ""
        for page in self._pages(self._prefix + prefix):
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self._prefix)
                if key <= last:
                    raise StorageError(
                        f"{self.location} lists its objects out of order: {key} after {last}",
                        hint="backupd needs listings in the order of keys; S3 Express has none",
                    )
                last = key
                if is_key(key):  # others are not ours: a folder's placeholder, say
                    yield ObjectInfo(key, item["Size"], item["LastModified"].astimezone(UTC))

    def delete(self, key: str) -> None:
        target = self._target(key)
        with self._errors(f"delete {key}"):
            self._client.delete_object(**target)

    def close(self) -> None:
        self._client.close()

    @property
    def _condition(self) -> dict[str, Any]:
        return {"IfNoneMatch": "*"} if self._options.conditional_put else {}

    @property
    def _kept_as(self) -> dict[str, Any]:
        wanted = {
            "StorageClass": self._options.storage_class,
            "ServerSideEncryption": self._options.sse,
            "SSEKMSKeyId": self._options.sse_key_id,
        }
        return {name: value for name, value in wanted.items() if value is not None}

    def _errors(self, doing: str) -> AbstractContextManager[None]:
        return s3_errors(doing, self.location)

    def _target(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}

    def _get(self, key: str, **how: Any) -> tuple[StreamingBody, int]:
        target = self._target(key)
        with self._errors(f"read {key}"):
            try:
                answer = self._client.get_object(**target, **how)
            except self._client.exceptions.NoSuchKey as error:
                raise ObjectNotFound(f"no object {key} in {self.location}") from error
            except ClientError as error:
                if status_of(error) == 416:
                    raise _BeyondTheEnd from error
                raise
        return answer["Body"], answer["ContentLength"]

    def _pages(self, prefix: str) -> Iterator[dict[str, Any]]:
        following: dict[str, str] = {}
        while True:
            with self._errors("list objects"):
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **following)  # type: ignore[arg-type]
            yield cast(dict[str, Any], page)
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken")
            if not token or token == following.get("ContinuationToken"):
                raise StorageError(
                    f"{self.location} gave a part of a listing and not how it goes on",
                    hint="try again; if it stays so, look at the server",
                )
            following = {"ContinuationToken": token}

    def _abort_leftovers(self) -> None:
        """Once, before the first large object. Who may not list or abort uploads can still write."""
        with self._lock:
            age, self._leftover = self._leftover, None
        if age is not None:
            errors = partial(self._errors, "end unfinished uploads")
            with suppress(StorageError):
                abort_leftovers(self._client, self._bucket, self._prefix, age, errors)


class _BeyondTheEnd(Exception):
    """An object has no byte where a range begins."""


class _Body(io.RawIOBase):
    """What a GET returns, as a file whose failures are the storage's own."""

    def __init__(self, body: StreamingBody, errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._body = body
        self._errors = errors

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        with self._errors():
            block = self._body.read(len(view))
        view[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()


def _block(file: BinaryIO, size_bytes: int) -> bytes:
    """That much of the file, or what there is. A file may return less than it has."""
    block = file.read(size_bytes)
    while len(block) < size_bytes and (more := file.read(size_bytes - len(block))):
        block += more
    return block


def connect(options: S3Options) -> S3Client:
    """A client for any number of threads; it asks nobody yet."""
    settings = Config(
        signature_version="s3v4",
        s3={"addressing_style": options.addressing_style},
        # What boto3 would add by itself many servers do not understand; the checksums that matter are ours.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=options.connections,
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        tcp_keepalive=True,
        # A sixth of what a request costs this process; `check_key` has seen to what goes in.
        parameter_validation=False,
        # Its own tries would multiply with those of `RetryingStorage`, and know no deadline.
        retries={"total_max_attempts": 1, "mode": "standard"},
    )
    # A session of its own: one that is shared is not for threads, and remembers keys that have changed since.
    # Only the description of S3 is shared, which takes a tenth of a second to read.
    session = Session()
    session.register_component("data_loader", _DESCRIPTIONS)
    client: S3Client = boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=options.endpoint,
        region_name=options.region,
        aws_access_key_id=options.access_key,
        aws_secret_access_key=options.secret_key,
        config=settings,
    )
    # A put would wait for the server's word before it sends a body: a round trip for each.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    return client
