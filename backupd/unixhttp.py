"""Ask the daemon, through its socket, with the standard library alone: this must be there in an instant."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from backupd.errors import DaemonUnreachable

SOCKET = "backupd.sock"
"""The name of the socket in the state directory."""

_LIMIT_BYTES = 64 * 1024 * 1024


def ask(
    path: Path, method: str, target: str, body: bytes | None = None, *, timeout_seconds: float = 5.0
) -> tuple[int, bytes]:
    """The status and the body of the answer; `DaemonUnreachable` where nobody answers in that time.

    The time is for each step: a daemon that works for long before it answers needs a longer one.
    """
    content = b"" if body is None else body
    head = f"{method} {target} HTTP/1.0\r\nHost: backupd\r\nContent-Length: {len(content)}\r\n"
    if body is not None:
        head += "Content-Type: application/json\r\n"
    try:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
            connection.settimeout(timeout_seconds)
            with reachable(path) as name:
                connection.connect(name)
            connection.sendall(head.encode("ascii") + b"\r\n" + content)
            answer = _read(connection)
        return _parsed(answer)
    except (OSError, ValueError) as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else _reason(error)
        raise DaemonUnreachable(
            f"the daemon does not answer on {path}: {reason}", hint=_hint(error)
        ) from None


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """The path of a socket in few enough characters: the kernel takes 107 of them."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _read(connection: socket.socket) -> bytes:
    parts, length = [], 0
    while part := connection.recv(65536):
        parts.append(part)
        length += len(part)
        if length > _LIMIT_BYTES:
            raise ValueError("an answer without end")
    return b"".join(parts)


def _parsed(answer: bytes) -> tuple[int, bytes]:
    head, separator, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not separator or not head.startswith(b"HTTP/1.") or not words[1].isdigit():
        raise ValueError("the answer was cut off" if not separator else "no answer of a daemon")
    length = re.search(rb"\r\ncontent-length: *([0-9]+)", head, re.IGNORECASE)
    if length and int(length[1]) != len(body):
        raise ValueError("the answer was cut off")
    return int(words[1]), body


def _hint(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "ask as the user of the daemon, or as one in the group of its state directory and socket"
    return "is `backupd run` running, with the same state_dir? its log says why it ended"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
