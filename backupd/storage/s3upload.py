"""Large objects, which go to S3 in parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self

from backupd.errors import StorageError
from backupd.storage.s3errors import stored_unless_taken

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

Errors = Callable[[], AbstractContextManager[None]]


class Upload:
    """A context in which one object comes to be, part by part. Left without `complete`, nothing is kept."""

    def __init__(
        self, client: S3Client, target: Mapping[str, Any], kept_as: Mapping[str, Any], errors: Errors
    ) -> None:
        self._client = client
        self._target: dict[str, Any] = dict(target)
        self._errors = errors
        self._parts: list[Any] = []
        self._completed = False
        with errors():
            self._id = client.create_multipart_upload(**self._target, **kept_as)["UploadId"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What cannot be aborted now is a leftover later; the first error is the one to tell.
        if not self._completed:
            with suppress(StorageError), self._errors():
                self._client.abort_multipart_upload(**self._target, UploadId=self._id)

    def add(self, block: bytes) -> None:
        """Send the next part."""
        number = len(self._parts) + 1
        with self._errors():
            sent = self._client.upload_part(**self._target, UploadId=self._id, PartNumber=number, Body=block)
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})

    def complete(self, condition: dict[str, Any]) -> bool:
        """Make the object of the parts; False where, under this condition, there is one already."""
        with self._errors():
            self._completed = stored_unless_taken(
                lambda: self._client.complete_multipart_upload(
                    **self._target, UploadId=self._id, MultipartUpload={"Parts": self._parts}, **condition
                )
            )
        return self._completed


def abort_leftovers(client: S3Client, bucket: str, prefix: str, age: timedelta, errors: Errors) -> None:
    """End the uploads under a prefix that are that old by the server's clock: their writers died."""
    with errors():
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            for upload in page.get("Uploads", ()):
                if now - upload["Initiated"] >= age:
                    client.abort_multipart_upload(
                        Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
