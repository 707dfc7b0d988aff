"""What a helper may take of the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Memory in bytes, and its weight against other containers where they compete for cores and disks.

    `cpu_shares` (the engine's default is 1024) and `io_weight` (10 to 1000) are left to the engine where they
    are None. A kernel without weights for disks ignores `io_weight`.
    """

    memory_bytes: int = 512 * 1024 * 1024
    cpu_shares: int | None = None
    io_weight: int | None = None
