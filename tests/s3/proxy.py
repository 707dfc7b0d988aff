"""A network that breaks: a port in front of the server's."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

RESET = struct.pack("ii", 1, 0)


class Proxy:
    """A context: passes connections on, and breaks some of them when told to."""

    def __init__(self, port: int, *, say: Callable[[bytes], bytes] = lambda block: block) -> None:
        """`say` is what becomes of a block on its way to the server."""
        self._say = say
        self._upstream = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._losing = 0
        self._cut_after: int | None = None

    @property
    def endpoint(self) -> str:
        """The address to use instead of the server's."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Reset every connection there is; new ones are passed on."""
        with self._lock:
            for connection in self._connections:
                _reset(connection)
            self._connections.clear()

    def lose_answers(self, count: int) -> None:
        """Carry the next requests to the server, and reset the connection instead of bringing the answer."""
        with self._lock:
            self._losing = count

    def cut_answer_after(self, size_bytes: int) -> None:
        """Reset the connection when so many bytes of the next large answer have passed."""
        with self._lock:
            self._cut_after = size_bytes

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._upstream)
            except OSError:
                return
            with self._lock:
                self._connections += [near, far]
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()
            threading.Thread(target=self._bring, args=(far, near), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while block := near.recv(65536):
                far.sendall(self._say(block))
            far.shutdown(socket.SHUT_WR)

    def _bring(self, far: socket.socket, near: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while block := far.recv(65536):
                passed += len(block)
                if self._is_lost(passed):
                    _reset(near)
                    _reset(far)
                    return
                near.sendall(block)
            near.shutdown(socket.SHUT_WR)

    def _is_lost(self, passed_bytes: int) -> bool:
        with self._lock:
            if self._losing:
                self._losing -= 1
                return True
            if self._cut_after is not None and passed_bytes > self._cut_after:
                self._cut_after = None
                return True
        return False


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
