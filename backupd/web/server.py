"""uvicorn in a thread of the daemon, on sockets that are bound here."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn
from starlette.types import ASGIApp

from backupd.errors import BackupdError
from backupd.unixhttp import reachable

log = structlog.get_logger(__name__)

START_SECONDS = 30.0
STOP_SECONDS = 5.0
SOCKET_MODE = 0o660


@dataclass(frozen=True)
class Entrance:
    """A bound socket, and what answers there."""

    socket: socket.socket
    app: ASGIApp


@contextmanager
def unix_socket(path: Path) -> Iterator[socket.socket]:
    """A socket at `path` for owner and group, which replaces one that a killed daemon left behind.

    The caller holds the lock that makes it the only daemon there.
    """
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as bound:
        try:
            path.unlink(missing_ok=True)
            # Before it has a name: in between nobody may do more than later.
            os.fchmod(bound.fileno(), SOCKET_MODE)
            with reachable(path) as name:
                bound.bind(name)
            path.chmod(SOCKET_MODE)
        except OSError as error:
            raise BackupdError(
                f"cannot listen on {path}: {error.strerror}",
                hint="make the state directory writable, on a file system that knows sockets",
            ) from error
        try:
            yield bound
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def tcp_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at that address; `BackupdError` where it is taken or not this machine's."""
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise BackupdError(
            f"cannot listen on {host} port {port}: {error.strerror}", hint="set web.listen to another address"
        ) from error
    with closing(bound):
        yield bound


@contextmanager
def serving(entrances: Sequence[Entrance]) -> Iterator[None]:
    """Answer on all entrances, from one thread, as long as the context."""
    servers = [_Server(_config(entrance.app)) for entrance in entrances]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(_serve(servers, entrances))
        except BaseException as error:
            failures.append(error)
            log.exception("web server ended")

    thread = threading.Thread(target=work, name="backupd-web", daemon=True)
    with ExitStack() as stack:
        thread.start()
        stack.callback(_stop, servers, thread)
        _wait_until_started(servers, failures)
        yield


async def _serve(servers: Sequence[_Server], entrances: Sequence[Entrance]) -> None:
    await asyncio.gather(
        *(
            server.serve(sockets=[entrance.socket])
            for server, entrance in zip(servers, entrances, strict=True)
        )
    )


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the daemon's."""
        yield


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,  # its records take the path of all others
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        lifespan="off",
        loop="asyncio",
        http="h11",
        ws="none",
        limit_concurrency=64,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=int(STOP_SECONDS),
        h11_max_incomplete_event_size=16 * 1024,
    )


def _wait_until_started(servers: Sequence[_Server], failures: Sequence[BaseException]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not all(server.started for server in servers):
        if failures or time.monotonic() > deadline:
            reason = repr(failures[0]) if failures else "it took too long"
            raise BackupdError(f"the web server did not start: {reason}")
        time.sleep(0.01)


def _stop(servers: Sequence[_Server], thread: threading.Thread) -> None:
    for server in servers:
        server.should_exit = True
    thread.join(2 * STOP_SECONDS)
