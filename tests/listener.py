"""A real HTTP server on loopback that writes down what it is sent, and answers as it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: Message
    body: bytes


@dataclass
class Listener:
    """What came so far. `answers` are the next codes, then 200 for ever; `hold` keeps answers back."""

    port: int = 0
    answers: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    news: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def wait_for(self, count: int) -> list[Received]:
        """The requests, as soon as there are so many."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.received) >= count, PATIENCE_SECONDS), self.received
            return list(self.received)

    def take(self, request: Received) -> int:
        """Write it down; the code to answer with."""
        assert self.hold.wait(PATIENCE_SECONDS)
        with self.news:
            self.received.append(request)
            self.news.notify_all()
            return self.answers.pop(0) if self.answers else 200


@contextmanager
def listening() -> Iterator[Listener]:
    """A server, as long as the context."""
    listener = Listener()
    listener.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code = listener.take(Received(self.command, self.path, self.headers, body))
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        listener.hold.set()
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE_SECONDS)
