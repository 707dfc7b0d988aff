"""The image that helpers are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class HelperImage:
    """An image with a tar in it: how the engine knows it, which tar, and what that says of its version."""

    reference: str
    tar: Literal["gnu", "busybox"]
    version: str

    @property
    def flags(self) -> tuple[str, ...]:
        """What tar is told, so that the stream is a function of the tree."""
        return CREATE_FLAGS[self.tar]


CREATE_FLAGS: dict[str, tuple[str, ...]] = {
    "gnu": (
        "--create",
        "--format=posix",
        "--sort=name",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--sparse",
        "--hole-detection=raw",
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
        "--blocking-factor=512",
        "--force-local",
    ),
    "busybox": ("-c", "--numeric-owner"),
}
EXTRACT_FLAGS: dict[str, tuple[str, ...]] = {
    "gnu": (
        "--extract",
        "--preserve-permissions",
        "--same-owner",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--delay-directory-restore",
        "--blocking-factor=512",
        "--force-local",
    ),
    "busybox": ("-x", "-p", "--numeric-owner"),
}
