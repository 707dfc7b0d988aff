"""The one door through which errors of S3, of its client and of the network leave the storage package."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from boto3.exceptions import Boto3Error
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from backupd.errors import StorageError, StorageFull, StorageUnavailable

FOREIGN = (
    boto.BotoCoreError,
    Boto3Error,
    ResponseParserError,
    HTTPError,
    ConnectionError,
    TimeoutError,
    socket.gaierror,
)
"""All that the client raises in a call besides `ClientError`. Anything else there is a mistake of ours."""

SET_UP = (*FOREIGN, OSError, ValueError)
"""What it raises when it is made: also for files of AWS's configuration, and malformed addresses."""


@dataclass(frozen=True)
class _Meaning:
    reason: str
    hint: str
    kind: type[StorageError] = StorageError


_RENEW = "renew the credentials (session token, SSO login, role) that backupd finds in its AWS chain"
_BUSY = _Meaning(
    "the server asks for patience", "try again; if it stays so, look at the server", StorageUnavailable
)
_NO_BUCKET = _Meaning(
    "there is no such bucket",
    "check the name in `storage`, s3.endpoint and s3.region, or create the bucket; backupd never does",
)
_KEY_ID = _Meaning(
    "the server does not know the access key", "check s3.access_key, and that s3.endpoint is its server"
)
_SIGNATURE = _Meaning(
    "the secret key does not fit the access key",
    "check s3.secret_key (a line break or a missing character?) and s3.region",
)
_DENIED = _Meaning(
    "these keys have no right to do that",
    "docs/GUIDE.md, section Ransomware, lists the rights that backupd needs; is the user suspended?",
)
_EXPIRED = _Meaning("the credentials have expired", _RENEW)
_REGION = _Meaning("the bucket is in another region", "set s3.region to the bucket's region")
_CLOCK = _Meaning(
    "this machine's clock and the server's differ too much", "set this machine's clock: is NTP running?"
)
_FULL = _Meaning("no room is left: a quota is used up", "raise the quota, or free some space", StorageFull)
_KMS = _Meaning(
    "the key for server-side encryption cannot be used",
    "check s3.sse_key_id, its state and the right to use it",
)

_CODES = {
    "AccessDenied": _DENIED,
    "AccountProblem": _DENIED,
    "AllAccessDisabled": _DENIED,
    "UserSuspended": _DENIED,
    "InvalidAccessKeyId": _KEY_ID,
    "SignatureDoesNotMatch": _SIGNATURE,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "NoSuchBucket": _NO_BUCKET,
    "InvalidBucketName": _NO_BUCKET,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "InvalidObjectState": _Meaning(
        "the object was moved to an archive class",
        "restore it there first; backupd needs objects it can read at once",
    ),
    "InvalidStorageClass": _Meaning("the server has no such storage class", "check s3.storage_class"),
    # damaged on the way, or an operation on the same key in the same moment
    "BadDigest": _BUSY,
    "XAmzContentSHA256Mismatch": _BUSY,
    "ConditionalRequestConflict": _BUSY,
    "OperationAborted": _BUSY,
    "SlowDown": _BUSY,
    "RequestTimeout": _BUSY,
    "RequestTimeoutException": _BUSY,
    "Throttling": _BUSY,
    "ThrottlingException": _BUSY,
    "RequestLimitExceeded": _BUSY,
    "BandwidthLimitExceeded": _BUSY,
}
_STATUSES = {
    301: _REGION,
    401: _DENIED,
    403: _DENIED,
    404: _NO_BUCKET,
    408: _BUSY,
    409: _BUSY,
    425: _BUSY,
    429: _BUSY,
    501: _Meaning(
        "the server cannot do that",
        "leave out s3.sse and s3.storage_class, and set s3.conditional_put = false for a simple server",
    ),
    507: _FULL,
}

_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    boto.TokenRetrievalError,
    boto.NoAuthTokenError,
    boto.SSOError,
    boto.LoginError,
    boto.RefreshWithMFAUnsupportedError,
    boto.UnknownCredentialError,
)
_TRANSIENT = (
    boto.HTTPClientError,  # a connection that was refused, cut, or silent
    boto.IncompleteReadError,
    HTTPError,
    ConnectionError,
    TimeoutError,
    socket.gaierror,
)


@contextmanager
def s3_errors(doing: str, location: str, foreign: tuple[type[Exception], ...] = FOREIGN) -> Iterator[None]:
    """Turn what S3, its client or the network raise into the `StorageError` that says what failed, where."""
    try:
        yield
    except boto.ClientError as error:
        raise _refused(error, doing, location) from error
    except foreign as error:
        raise _failed(error, doing, location) from error


def stored_unless_taken(put: Callable[[], object]) -> bool:
    """Whether a conditional put was carried out; False where the server says that the key is taken."""
    try:
        put()
    except boto.ClientError as error:
        if status_of(error) == 412:
            return False
        raise
    return True


def status_of(error: boto.ClientError) -> int:
    """The HTTP status of an answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: boto.ClientError) -> str:
    """The code of an answer: `NoSuchKey`; an answer without a body has its status there."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _refused(error: boto.ClientError, doing: str, location: str) -> StorageError:
    code, status = code_of(error), status_of(error)
    meaning = _CODES.get(code) or _STATUSES.get(status)
    if meaning is None and code.startswith("KMS"):
        meaning = _KMS
    if meaning is None and status >= 500:
        meaning = _BUSY
    if meaning is None:
        said = error.response.get("Error", {}).get("Message") or "no reason is given"
        meaning = _Meaning(said, "see what the server's own log says of it")
    return meaning.kind(
        f"cannot {doing} in {location}: {meaning.reason} ({code or status})", hint=meaning.hint
    )


def _failed(error: Exception, doing: str, location: str) -> StorageError:
    meaning = _meaning(error)
    return meaning.kind(f"cannot {doing} in {location}: {meaning.reason}", hint=meaning.hint)


def _meaning(error: Exception) -> _Meaning:
    if isinstance(error, _CREDENTIALS):
        return _Meaning(
            f"there are no usable credentials: {error}",
            "set s3.access_key and s3.secret_key (BACKUPD_S3__SECRET_KEY_FILE), or the usual AWS variables",
        )
    if isinstance(error, boto.SSLError):
        return _Meaning(
            f"the server's certificate is not accepted: {error.kwargs['error']}",
            "check s3.endpoint; AWS_CA_BUNDLE names the file of a certificate authority of your own",
        )
    if isinstance(error, boto.EndpointConnectionError | boto.ConnectTimeoutError | boto.ProxyConnectionError):
        return _Meaning(
            _why_unreached(error), "check s3.endpoint and the network; is the server up?", StorageUnavailable
        )
    if isinstance(error, _TRANSIENT):
        return _Meaning(
            f"the connection broke off ({type(error).__name__})",
            "check the network and whether the server is up, then try again",
            StorageUnavailable,
        )
    if isinstance(error, ResponseParserError):
        return _Meaning(
            "what answers there is no S3 server", "check s3.endpoint: its host, port, http or https"
        )
    return _Meaning(f"{error}", "check the settings under [s3], and the AWS configuration of this machine")


def _why_unreached(error: boto.BotoCoreError) -> str:
    address = str(error.kwargs.get("endpoint_url") or error.kwargs.get("proxy_url") or "the server")
    causes = list(_causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return f"{_host(address)} is a host that cannot be found"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return f"{_host(address)} refuses connections"
    return f"{_host(address)} cannot be reached"


def _host(address: str) -> str:
    """The beginning of an address: what follows is a path, and in a proxy's may stand a password."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}" if rest else address


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    queue: list[object] = [error]
    while queue:
        each = queue.pop()
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            queue += [each.__cause__, each.__context__, getattr(each, "reason", None)]
            queue.append(getattr(each, "kwargs", {}).get("error"))
            yield each
