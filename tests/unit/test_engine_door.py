"""Every error of docker-py and what lies below it has a meaning of ours."""

from __future__ import annotations

import http.client
import inspect

import docker.errors
import pytest
import requests
import urllib3

from backupd.engine.door import door
from backupd.errors import EngineError, EngineUnreachable


def _exceptions(module: object) -> list[type[Exception]]:
    found = [value for value in vars(module).values() if isinstance(value, type)]
    theirs = [
        cls for cls in found if cls.__module__.startswith(("docker.", "requests.", "urllib3.", "http."))
    ]
    return [cls for cls in theirs if issubclass(cls, Exception) and not issubclass(cls, Warning)]


FOREIGN = sorted(
    {
        *_exceptions(docker.errors),
        *_exceptions(requests.exceptions),
        *_exceptions(urllib3.exceptions),
        *_exceptions(http.client),
        ConnectionRefusedError,
        BrokenPipeError,
        TimeoutError,
    },
    key=lambda cls: f"{cls.__module__}.{cls.__qualname__}",
)


def _instance(cls: type[Exception]) -> Exception:
    """One such error, whatever its constructor asks for."""
    if issubclass(cls, docker.errors.DockerException) and inspect.isfunction(cls.__init__):
        parameters = inspect.signature(cls).parameters.values()
        needed = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        return cls(*["refused" for _ in needed])
    error = cls.__new__(cls)
    error.args = ("refused",)
    return error


@pytest.mark.parametrize("cls", FOREIGN, ids=lambda cls: f"{cls.__module__}.{cls.__qualname__}")
def test_every_foreign_error_becomes_an_engine_error(cls: type[Exception]) -> None:
    """No class that docker-py, requests, urllib3 or http.client defines leaves the engine package."""
    with pytest.raises(EngineError, match="cannot look"), door("look"):
        raise _instance(cls)


def test_own_error_passes_the_door_unchanged() -> None:
    """What is ours already keeps its class and its words."""
    with pytest.raises(EngineError, match=r"^mine$"), door("look"):
        raise EngineError("mine")


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (PermissionError(13, "Permission denied"), "no permission"),
        (FileNotFoundError(2, "No such file"), "does not exist"),
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (TimeoutError("timed out"), "does not answer"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_cause_that_is_wrapped_several_times_is_found(cause: OSError, words: str) -> None:
    """What kept us from the engine is said, however deep docker-py has buried it, with what to do."""
    wrapped = requests.ConnectionError(urllib3.exceptions.ProtocolError("aborted", cause))
    with pytest.raises(EngineUnreachable, match=words) as caught, door("connect"):
        raise docker.errors.DockerException("while fetching") from wrapped
    assert caught.value.hint
