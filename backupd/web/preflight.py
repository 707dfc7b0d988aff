"""`POST /preflight`: who is about to remove volumes has them saved first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backupd.operations.preflight import Verdict

PATH = "/preflight"
Ask = Callable[[Sequence[str]], Mapping[str, Verdict]]


def preflight_route(ask: Ask) -> Route:
    """Takes `{"volumes": […]}` and answers when all of them are saved, or cannot be.

    The answer is 200 with a verdict for each volume, or 400 for a body that is something else. `ask` runs in
    a thread and goes on when the client has gone; who asks again meanwhile joins it.
    """

    async def preflight(request: Request) -> Response:
        names = _names(await request.body())
        if names is None:
            return JSONResponse({"error": 'not of the form {"volumes": ["name"]}'}, 400)
        verdicts = await run_in_threadpool(ask, names)
        return JSONResponse({"volumes": {name: each.as_json() for name, each in verdicts.items()}})

    return Route(PATH, preflight, methods=["POST"])


def _names(body: bytes) -> list[str] | None:
    """The volumes that a request names, each once; None where it is malformed."""
    try:
        names = json.loads(body)["volumes"]
    except (ValueError, TypeError, KeyError):
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        return None
    return list(dict.fromkeys(names))
