"""Who may ask what over TCP: the Host that a browser cannot forge, a token, small requests."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT_BYTES = 64 * 1024
OPEN_PATH = "/healthz"
"""The one thing that is told to anybody."""


class SmallRequests:
    """Refuses bodies over 64 KiB with 413, announced or not, before the application has read them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None  # the client has gone
            body += message.get("body", b"")
            if len(body) > BODY_LIMIT_BYTES:
                refusal = PlainTextResponse("too large\n", 413, headers={"Connection": "close"})
                return await refusal(scope, receive, send)
            if not message.get("more_body"):
                break
        read = False

        async def again() -> Message:
            nonlocal read
            if read:
                return await receive()
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self._app(scope, again, send)


class Gatekeeper:
    """Stands before what listens on TCP, wherever that is bound to.

    A Host that is neither localhost, nor an address, nor in `hosts` is refused with 421: a web page that has
    its own name resolve to this address gets nothing, and it cannot have an address for a name. All but
    `/healthz` takes the bearer token; without a token in the settings there is no way in.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], token: str | None) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        refusal = self._refusal(Headers(scope=scope), scope["path"])
        return await (refusal or self._app)(scope, receive, send)

    def _refusal(self, headers: Headers, path: str) -> Response | None:
        named = headers.getlist("host")
        if len(named) != 1 or not self._is_known(named[0]):
            return PlainTextResponse("not served under this name: see web.hosts\n", 421)
        if path == OPEN_PATH:
            return None
        if self._token is None:
            return PlainTextResponse("only /healthz without web.token_file\n", 403)
        if not _is_right(headers.getlist("authorization"), self._token):
            return PlainTextResponse("token needed\n", 401, headers={"WWW-Authenticate": "Bearer"})
        return None

    def _is_known(self, host: str) -> bool:
        name = _without_port(host).lower().removesuffix(".")
        return name == "localhost" or _is_address(name) or name in self._hosts


def _is_right(given: list[str], token: str) -> bool:
    scheme, _, presented = (given[0] if len(given) == 1 else "").partition(" ")
    # Compared as a whole even where the scheme is wrong: the time tells nothing.
    same = hmac.compare_digest(presented.strip().encode("utf-8", "replace"), token.encode())
    return scheme.lower() == "bearer" and same


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
