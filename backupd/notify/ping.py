"""Pings in the manner of healthchecks.io: `/start`, nothing, `/fail` after the address."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from backupd.notify.post import post

Event = Literal["start", "success", "fail"]

LIMIT_BYTES = 10_000


@dataclass(frozen=True)
class Ping:
    """One ping and what it says; the address is a secret to those who print this."""

    url: str = field(repr=False)
    event: Event
    message: str

    @property
    def title(self) -> str:
        """What it is, without its address."""
        return f"ping: {self.event}"


def send(ping: Ping) -> None:
    """Deliver one; `NotDelivered` where that fails."""
    body = ping.message.encode()[:LIMIT_BYTES]
    post(_address(ping), body, {"Content-Type": "text/plain; charset=utf-8"})


def _address(ping: Ping) -> str:
    if ping.event == "success":
        return ping.url
    parts = urlsplit(ping.url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{ping.event}"))
