"""The one door through which the errors of docker-py and of what lies below it become ours."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager

import requests
import urllib3
from docker.errors import APIError, DockerException, StreamParseError

from backupd.errors import EngineError, EngineUnreachable

FOREIGN = (
    DockerException,
    StreamParseError,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    urllib3.exceptions.ProxySchemeUnsupported,
    http.client.HTTPException,
    OSError,
)
"""Every class that a call to docker-py can raise; each ends as an `EngineError`."""

CHECK_ENGINE = "check that the Docker Engine runs (`docker version`) and that DOCKER_HOST is right"
NO_PERMISSION = (
    "let this user open the socket: add it to the group that owns the socket (often `docker`), "
    "or run backupd with `--user` or `group_add` of that group"
)
NO_SOCKET = "start the Docker Engine, mount its socket into this container, or set DOCKER_HOST"


@contextmanager
def door(action: str) -> Iterator[None]:
    """Raise whatever docker-py raises inside as an `EngineError` that says that `action` failed."""
    try:
        yield
    except FOREIGN as error:
        raise translated(error, action) from error


def translated(error: Exception, action: str) -> EngineError:
    """The error of ours that says what `error` means for `action`."""
    if isinstance(error, APIError):
        return EngineError(f"cannot {action}: {explanation(error)}")
    causes = tuple(_causes(error))
    for cause in causes:
        if isinstance(cause, APIError):
            return EngineError(f"cannot {action}: {explanation(cause)}")
    for cause in causes:
        unreachable = _unreachable(cause, action)
        if unreachable is not None:
            return unreachable
    return EngineError(f"cannot {action}: {_words(error)}")


def explanation(error: APIError) -> str:
    """What the engine itself said."""
    return str(error.explanation or error).strip()


def _unreachable(cause: BaseException, action: str) -> EngineUnreachable | None:
    if isinstance(cause, PermissionError):
        return EngineUnreachable(
            f"cannot {action}: no permission to open the engine's socket", hint=NO_PERMISSION
        )
    if isinstance(cause, FileNotFoundError):
        return EngineUnreachable(f"cannot {action}: the engine's socket does not exist", hint=NO_SOCKET)
    if isinstance(cause, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError):
        return EngineUnreachable(f"cannot {action}: the engine does not answer in time", hint=CHECK_ENGINE)
    if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException):
        return EngineUnreachable(f"cannot {action}: {_words(cause)}", hint=CHECK_ENGINE)
    if isinstance(
        cause, requests.ConnectionError | urllib3.exceptions.ProtocolError | http.client.HTTPException
    ):
        return EngineUnreachable(f"cannot {action}: the engine broke the connection", hint=CHECK_ENGINE)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The innermost errors first: docker-py and requests wrap them, as causes and as arguments."""
    nested = [argument for argument in error.args if isinstance(argument, BaseException)]
    nested += [wrapped for wrapped in (error.__cause__, error.__context__) if wrapped is not None]
    for wrapped in nested:
        yield from _causes(wrapped)
    yield error


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).strip() or type(error).__name__
