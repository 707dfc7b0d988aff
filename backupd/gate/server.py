"""HTTP on a unix socket, as much of it as the engine speaks to its plugins: small, and fast to start."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from typing import NoReturn

MOST_HEAD_BYTES = 64 * 1024
MOST_BODY_BYTES = 64 * 1024 * 1024
"""The engine sends at most 1 MiB of a request and 64 KiB of an answer, base64."""

Answer = Callable[[str, bytes], bytes]
"""From the path and the body of a request to the JSON of the answer. Called by many threads at once."""


@dataclass(frozen=True)
class Received:
    """A request that was read to its end."""

    path: str
    body: bytes
    last: bool
    """Does the other side wait for the end of the connection, as HTTP/1.0 does?"""


class _Malformed(Exception):
    """Bytes that are no request: the connection is closed after it has been said."""


def serve(listener: socket.socket, answer: Answer) -> NoReturn:
    """Answer every connection in a thread of its own, for ever."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_converse, args=(connection, answer), daemon=True).start()


def _converse(connection: socket.socket, answer: Answer) -> None:
    """Answer the requests of a connection until the other side has gone."""
    with connection, connection.makefile("rb") as reader, suppress(OSError):
        try:
            while (received := _receive(reader)) is not None:
                connection.sendall(_response(b"200 OK", answer(received.path, received.body)))
                if received.last:
                    return
        except _Malformed:
            connection.sendall(_response(b"400 Bad Request", b'{"Err":"malformed request"}'))


def _receive(reader: BufferedReader) -> Received | None:
    """The next request, or None where the connection ends between two."""
    first = reader.readline(MOST_HEAD_BYTES)
    if not first:
        return None
    words = first.split()
    if len(words) != 3 or not first.endswith(b"\n"):
        raise _Malformed
    body = reader.read(_length(reader))
    return Received(words[1].decode("latin-1"), body, last=words[2] == b"HTTP/1.0")


def _length(reader: BufferedReader) -> int:
    """What Content-Length says; the head is read to its end."""
    length, read = 0, 0
    while True:
        line = reader.readline(MOST_HEAD_BYTES)
        read += len(line)
        if not line.endswith(b"\n") or read > MOST_HEAD_BYTES:
            raise _Malformed
        name, _, value = line.partition(b":")
        if line in (b"\r\n", b"\n"):
            return length
        if name.lower() == b"transfer-encoding":
            raise _Malformed
        if name.lower() == b"content-length":
            length = _number(value)


def _number(text: bytes) -> int:
    digits = text.strip()
    if not digits.isdigit() or len(digits) > 10 or int(digits) > MOST_BODY_BYTES:
        raise _Malformed
    return int(digits)


def _response(status: bytes, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\nContent-Type: application/vnd.docker.plugins.v1.1+json\r\n" % status
        + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
