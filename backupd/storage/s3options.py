"""How a storage in S3 is reached and how it keeps objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

CONNECTIONS = 16


@dataclass(frozen=True)
class S3Options:
    """Where nothing is said: AWS, with the keys, the region and the profile of the usual AWS chain.

    `path_style` None means yes where an `endpoint` is given, no for AWS itself. `conditional_put` False is
    for stores that ignore `If-None-Match`: they are asked before every put whether the key is taken.
    """

    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    storage_class: str | None = None
    sse: str | None = None
    sse_key_id: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    connections: int = CONNECTIONS
    conditional_put: bool = True

    @property
    def addressing_style(self) -> Literal["path", "virtual"]:
        """`path` or `virtual`."""
        path_style = self.endpoint is not None if self.path_style is None else self.path_style
        return "path" if path_style else "virtual"
