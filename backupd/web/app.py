"""What is answered: health, metrics, status."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from backupd.health import Health
from backupd.metrics import CONTENT_TYPE
from backupd.web.doors import OPEN_PATH, Gatekeeper, SmallRequests


class Source(Protocol):
    """What the answers are made of; called from several threads, and quick."""

    def health(self) -> Health:
        """The judgement as of now."""
        ...

    def metrics(self) -> str:
        """The page for Prometheus."""
        ...

    def status(self) -> Mapping[str, Any]:
        """What runs, waits and has been, as JSON values."""
        ...


def private(source: Source, routes: Sequence[BaseRoute] = ()) -> ASGIApp:
    """For the socket in the state directory, whose mode says who may ask; `routes` are in addition."""
    return SmallRequests(Starlette(routes=[*_routes(source), *routes]))


def public(source: Source, *, hosts: Collection[str], token: str | None) -> ASGIApp:
    """For TCP: the same, behind a gatekeeper, and nothing that changes anything."""
    return Gatekeeper(SmallRequests(Starlette(routes=_routes(source))), hosts=hosts, token=token)


def _routes(source: Source) -> list[BaseRoute]:
    # Plain functions: starlette calls them in threads, where they may ask the ledger.
    def healthz(_: Request) -> Response:
        count = len(source.health().problems)
        if not count:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"not ok: {count} {'problem' if count == 1 else 'problems'}\n", 503)

    def health(_: Request) -> Response:
        found = source.health()
        return JSONResponse(found.as_json(), 200 if found.ok else 503)

    def metrics(_: Request) -> Response:
        return Response(source.metrics(), media_type=CONTENT_TYPE)

    def status(_: Request) -> Response:
        return JSONResponse(dict(source.status()))

    return [
        Route(OPEN_PATH, healthz),
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/status", status),
    ]
