"""The hijacked connection to a container's standard streams.

docker-py hands out the raw socket and so loses what came in one packet with the HTTP header (docker-py issues
2466 and 3332); here the header's own buffered reader is emptied first.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import requests

from backupd.engine.client import TIMEOUT_SECONDS, Engine
from backupd.engine.door import door
from backupd.errors import EngineUnreachable

PATIENCE_SECONDS = 0.25
"""How often a transfer that stands still looks whether it has been cancelled."""

_STAGE_BYTES = 256 * 1024
_FRAME = struct.Struct(">BxxxL")
_STDOUT = 1

Check = Callable[[], None]
"""Called while nothing moves; raises to end the waiting."""


class Attachment:
    """Output, or input, of one container not yet started. Not for several threads at once."""

    def __init__(self, engine: Engine, container: str, *, stdin: bool = False) -> None:
        api = engine.api
        url = f"{api.base_url}/v{api.api_version}/containers/{container}/attach"
        wanted = {"stdin": 1} if stdin else {"stdout": 1, "stderr": 1}
        self._upgrade(engine, url, params={"stream": 1, **wanted})

    def _upgrade(self, engine: Engine, url: str, **request: Any) -> None:
        with door("attach to a container"):
            self._response = engine.api.post(
                url,
                headers={"Connection": "Upgrade", "Upgrade": "tcp"},
                stream=True,
                timeout=TIMEOUT_SECONDS,
                **request,
            )
            self._response.raise_for_status()
            self._socket, early = _hijacked(self._response)
        self._stage = bytearray(max(_STAGE_BYTES, len(early)))
        self._stage[: len(early)] = early
        self._staged = memoryview(self._stage)[: len(early)]
        self._left = 0
        self._stream = 0

    def readinto(self, buffer: memoryview, stderr: Callable[[bytes], None], check: Check) -> int:
        """Put bytes of standard output into `buffer` and say how many, 0 at the end of both streams.

        What comes on standard error goes to `stderr` on the way.
        """
        while self._frame(check):
            size = min(self._left, len(self._staged))
            if self._stream != _STDOUT:
                stderr(self._staged[:size].tobytes())
                self._consume(size)
                continue
            size = min(size, len(buffer))
            buffer[:size] = self._staged[:size]
            self._consume(size)
            return size
        return 0

    def write(self, content: memoryview, check: Check) -> None:
        """Send all of `content` to standard input; `OSError` where nobody takes it any more."""
        while content:
            try:
                sent = self._socket.send(content)
            except TimeoutError:
                check()
            else:
                content = content[sent:]

    def close_input(self) -> None:
        """Let the container's standard input end."""
        with suppress(OSError):
            if isinstance(self._socket, ssl.SSLSocket):
                self._socket.close()
            else:
                self._socket.shutdown(socket.SHUT_WR)

    def hang_up(self) -> None:
        """Break the connection; another thread's waiting `readinto` ends."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the connection back; nobody may use it any more."""
        self.hang_up()
        self._socket.close()
        self._response.close()

    def _frame(self, check: Check) -> bool:
        """Have at least one byte of a frame's payload staged; False at the end."""
        while self._left == 0:
            if not self._staged and not self._receive(check):
                return False
            while len(self._staged) < _FRAME.size:
                self._receive_more(check)
            self._stream, self._left = _FRAME.unpack_from(self._staged)
            self._staged = self._staged[_FRAME.size :]
        if not self._staged:
            self._receive_more(check)
        return True

    def _consume(self, size: int) -> None:
        self._staged = self._staged[size:]
        self._left -= size

    def _receive_more(self, check: Check) -> None:
        if not self._receive(check):
            raise EngineUnreachable("the engine cut the stream of a helper container")

    def _receive(self, check: Check) -> bool:
        """Stage what the socket has, behind what is staged already; False at its end."""
        kept = len(self._staged)
        self._stage[:kept] = bytes(self._staged)
        whole = memoryview(self._stage)
        received = self._received(whole[kept:], check)
        self._staged = whole[: kept + received]
        return received > 0

    def _received(self, room: memoryview, check: Check) -> int:
        with door("read from a helper container"):
            while True:
                try:
                    return self._socket.recv_into(room)
                except TimeoutError:
                    check()


class Execution(Attachment):
    """Output of a process that is started in a running container, as the engine's exec of that id."""

    def __init__(self, engine: Engine, execution: str) -> None:
        api = engine.api
        url = f"{api.base_url}/v{api.api_version}/exec/{execution}/start"
        self._upgrade(engine, url, json={"Detach": False, "Tty": False})


def _hijacked(response: requests.Response) -> tuple[socket.socket, bytes]:
    """The socket below an HTTP answer, and what the answer's reader has already taken from it."""
    reader: Any = response.raw._fp.fp  # type: ignore[union-attr]
    connection: socket.socket = reader.raw._sock
    connection.settimeout(0)
    early: bytes = reader.peek()
    connection.settimeout(PATIENCE_SECONDS)
    return connection, early
