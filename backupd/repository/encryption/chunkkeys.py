"""The keys of chunks (docs/FORMAT.md, "Chunks")."""

from __future__ import annotations

import re

SNAPSHOT_ID = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}"
"""The form of a snapshot's id, and of the id of a set under gc/."""

ID_BYTES = 32

_KEY = re.compile(rf"chunks/([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})((?:\.{SNAPSHOT_ID})?\.zst(?:\.age)?)")


def chunk_of(key: str) -> str | None:
    """The id of the chunk that is stored under `key`; None if no chunk can be."""
    match = _KEY.fullmatch(key)
    return match[2] if match else None


def ending_of(key: str) -> str | None:
    """What follows the id in a chunk's key, such as `.zst`; None if no chunk can be stored under it."""
    match = _KEY.fullmatch(key)
    return match[3] if match else None


def stem_of(chunk: str) -> str:
    """What all keys of a chunk begin with; the rest is an ending, which begins with a dot."""
    return f"chunks/{chunk[:2]}/{chunk}"
