"""What would a request to the Docker Engine destroy? Pure, and the same answer for the same request.

Only the method and the target of the request say so. Its body is never looked at: the engine keeps bodies
from authorization plugins when they are forms, when they are large, and, in versions with CVE-2024-41110 or
CVE-2026-34040, whenever a client wants that.

The target is read as Go's net/http and gorilla/mux read it in the engine: the absolute form loses its scheme
and host, the query begins at the first question mark, the path is percent-decoded once and then cleaned of
`.`, `..` and `//`, and one version prefix may stand before the route. Where the engine would answer with a
redirect or with 404, the answer here may be that something is destroyed; where it destroys, it is never that
nothing is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote_to_bytes

_HARMLESS = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "PATCH"))
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(//[^/]*)?")
_VERSION = re.compile(r"/v[0-9.]+(?=/)")


class Reach(Enum):
    """How far a request reaches."""

    NOTHING = "no volume that has a name of its own"
    NAMED = "one volume, which it names"
    PRUNABLE = "every volume that no container refers to"
    FOREIGN = "volumes whose driver is a plugin"
    UNCLEAR = "it cannot be read"


@dataclass(frozen=True)
class Removal:
    """What a request would destroy; `volume` is the name where the reach is NAMED."""

    reach: Reach
    volume: str = ""


NOTHING = Removal(Reach.NOTHING)


def removal(method: str, target: str) -> Removal:
    """What the engine would destroy if it were asked this.

    Removing a container with its volumes (`DELETE /containers/ID?v=1`) takes only volumes that the engine
    has named itself; `POST /volumes/prune` takes what its filters say, and those may be in a body. Removing a
    plugin takes whatever its volumes keep inside it.
    """
    method = method.upper()
    if method in _HARMLESS:
        return NOTHING
    path = _path(target)
    if path is None:
        return Removal(Reach.UNCLEAR)
    route, _, name = path.lstrip("/").partition("/")
    if route.lower() == "volumes":
        return _of_volumes(method, name)
    if route.lower() == "plugins" and name and method != "POST":
        return Removal(Reach.FOREIGN)
    return NOTHING


def _of_volumes(method: str, name: str) -> Removal:
    if method == "POST":
        return Removal(Reach.PRUNABLE) if name.lower() == "prune" else NOTHING
    return Removal(Reach.NAMED, name) if name else NOTHING


def _path(target: str) -> str | None:
    """The path that the engine's router sees, without the version; None if nobody can say."""
    raw = target.partition("?")[0]
    scheme = _SCHEME.match(raw)
    if scheme:
        raw = raw[scheme.end() :]
    if not raw.isascii() or _BROKEN_ESCAPE.search(raw):
        return None
    try:
        decoded = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return None
    return _VERSION.sub("", _cleaned(decoded), count=1)


def _cleaned(path: str) -> str:
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    return "/" + "/".join(kept)
