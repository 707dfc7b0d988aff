"""No foreign exception leaves the storage in S3."""

from __future__ import annotations

import inspect

import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import ProtocolError

from backupd.errors import StorageError, StorageFull, StorageUnavailable
from backupd.storage.s3errors import SET_UP, s3_errors

CLASSES = [
    each
    for _, each in inspect.getmembers(boto, inspect.isclass)
    if issubclass(each, boto.BotoCoreError) and each.fmt
]


class AnyFacts(dict[str, str]):
    """What a botocore exception fills its message with, whatever it asks for."""

    def __missing__(self, name: str) -> str:
        return name


def translated(error: Exception) -> StorageError:
    """What comes out of the door."""
    with pytest.raises(StorageError) as caught, s3_errors("read a", "s3://b/p"):
        raise error
    assert caught.value.__cause__ is error
    assert caught.value.message.startswith("cannot read a in s3://b/p: ")
    assert caught.value.hint
    return caught.value


def answer(code: str, status: int) -> boto.ClientError:
    """A server's refusal."""
    facts = {"Error": {"Code": code, "Message": "said"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(facts, "PutObject")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_of_the_client_is_translated(kind: type[boto.BotoCoreError]) -> None:
    """Also those that a later version of botocore may raise here."""
    error = kind.__new__(kind)
    Exception.__init__(error, "in words")
    error.kwargs = AnyFacts()
    translated(error)


@pytest.mark.parametrize(
    "error",
    [
        ResponseParserError("html"),
        ProtocolError("cut"),
        ConnectionResetError(),
    ],
)
def test_what_the_client_lets_through_is_translated(error: Exception) -> None:
    """It does not wrap all."""
    translated(error)


@pytest.mark.parametrize(
    "error", [ValueError("our mistake"), FileNotFoundError("our mistake"), KeyError("a")]
)
def test_mistakes_of_our_own_are_no_errors_of_the_storage(error: Exception) -> None:
    """In a call they pass as they are; while the client is made they speak of the configuration."""
    with pytest.raises(type(error)) as caught, s3_errors("read a", "s3://b/p"):
        raise error
    assert caught.value is error
    if not isinstance(error, KeyError):
        with pytest.raises(StorageError, match="our mistake"), s3_errors("set up", "s3://b/p", SET_UP):
            raise error


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("SlowDown", 503),
        ("InternalError", 500),
        ("502", 502),
        ("TooManyRequests", 429),
        ("RequestTimeout", 400),
        ("ConditionalRequestConflict", 409),
        ("BadDigest", 400),
    ],
)
def test_what_passes_is_worth_another_try(code: str, status: int) -> None:
    """R6, R7: a server that is busy, restarts, or was in a race."""
    assert isinstance(translated(answer(code, status)), StorageUnavailable)


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("ExpiredToken", 400, "expired"),
        ("RequestTimeTooSkewed", 403, "clock"),
        ("AccessDenied", 403, "no right"),
        ("PermanentRedirect", 301, "region"),
        ("KMS.DisabledException", 400, "encryption"),
        ("NobodyKnows", 400, "said"),
    ],
)
def test_what_stays_is_told_at_once(code: str, status: int, said: str) -> None:
    """R10: no patience helps against these."""
    error = translated(answer(code, status))
    assert said in error.message
    assert not isinstance(error, StorageUnavailable)


def test_used_up_quota_is_a_full_storage() -> None:
    """R1: the same error as on a disk."""
    assert isinstance(translated(answer("QuotaExceeded", 403)), StorageFull)
