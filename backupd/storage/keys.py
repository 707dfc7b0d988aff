"""Which names an object may have."""

from __future__ import annotations

import re

from backupd.errors import UsageError

KEY_LIMIT_BYTES = 1024
SEGMENT_LIMIT_BYTES = 255

_SEGMENT = r"(?!\.\.?(?:/|\Z))[^/\x00-\x1f\x7f\ud800-\udfff]{1,255}"
_KEY = re.compile(rf"(?!\.){_SEGMENT}(?:/{_SEGMENT})*")


def check_key(key: str) -> str:
    """The key itself; `UsageError` unless it is a relative path that every storage can hold.

    The first segment has no leading dot: such names are a storage's own. Segments fit into a file name (255
    bytes), keys into S3 (1,024 bytes), and no control character can break a list of keys, one a line.
    """
    if not is_key(key):
        raise UsageError(
            f"not an object key: {key!r}",
            hint="a key is a relative path of plain segments, such as snapshots/h/v/s.json",
        )
    return key


def is_key(key: str) -> bool:
    """Whether `check_key` lets the key pass."""
    if _KEY.fullmatch(key) is None or len(key) > KEY_LIMIT_BYTES:
        return False
    return key.isascii() or _fits(key)


def _fits(key: str) -> bool:
    encoded = key.encode()
    return len(encoded) <= KEY_LIMIT_BYTES and all(len(s) <= SEGMENT_LIMIT_BYTES for s in encoded.split(b"/"))
