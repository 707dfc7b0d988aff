"""The many ways to write one request target, for the engine and for what reads it beside it."""

from __future__ import annotations

from hypothesis import strategies as st

VOLUME = "shop_db-1.x"

REMOVING = (
    "/volumes/{name}",
    "/v1.41/volumes/{name}",
    "/v1.24/volumes/{name}?force=1",
    "/volumes/{name}?",
    "/volumes/{name}?force=true&x=%zz",
    "/%76olumes/{name}",
    "/%76%6f%6C%75%6d%65%73/{name}",
    "/v1%2e41/volumes/{name}",
    "/%76%31.41%2Fvolumes%2F{name}",
    "/volumes%2F{name}",
    "/volumes/{encoded}",
    "http://localhost/volumes/{name}",
    "http://localhost/v1.41/volumes/{name}?force=1",
    "http://volumes/v1.41/volumes/{name}",
    "HTTP://u:p@h:1/volumes/{name}",
    "x-y+z.1:/volumes/{name}",
    "http:///volumes/{name}",
    "unix://%2Fvar%2Frun/volumes/{name}",
)
"""Targets with which DELETE removes the volume, on some engine that there is."""

REDIRECTED = (
    "//volumes/{name}",
    "/volumes//{name}",
    "/volumes/./{name}",
    "/containers/../volumes/{name}",
    "/containers/%2e%2e/volumes/{name}",
    "/../volumes/{name}",
    "/volumes/{name}/",
    "/volumes/x/../{name}",
    "/v1.41//volumes/{name}",
    "http://localhost//volumes/{name}",
)
"""Targets that the engine's router answers with a redirect to a removing one, or with 404."""

HARMLESS = (
    "/containers/{name}?v=1&force=1",
    "/v1.41/containers/{name}?force=1&v=1",
    "/networks/{name}",
    "/images/{name}",
    "/volumes",
    "/volumes/",
    "/",
    "*",
    "",
    "/containers/volumes/{name}",
    "/%2576olumes/{name}",
    "/v1.41/v1.41/volumes/{name}",
    "/x/volumes/{name}",
    "/images/volumes/{name}",
    "?/volumes/{name}",
    "/containers/x?/volumes/{name}",
)
"""Targets with which DELETE removes no volume that has a name."""


def spelled(pattern: str, name: str) -> str:
    """The target for that volume."""
    return pattern.format(name=name, encoded="".join(f"%{byte:02x}" for byte in name.encode()))


@st.composite
def spellings(draw: st.DrawFn, path: str) -> str:
    """Some way to write a path: each character perhaps encoded, a prefix, a scheme and host, a query."""
    written = "".join(
        f"%{ord(letter):02X}" if draw(st.booleans()) and letter != "/" else letter for letter in path
    )
    prefix = draw(st.sampled_from(["", "", "/v1.24", "/v1.41", "/v1.44", "/v9"]))
    host = draw(st.sampled_from(["", "", "http://localhost", "http://docker:2375", "a:"]))
    query = draw(st.sampled_from(["", "?", "?force=1", "?force=0&filters=%7B%7D", "?v=1?x=/volumes/y"]))
    return host + prefix + written + query
