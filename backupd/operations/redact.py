"""Keep secrets out of the manifest: volume options hold CIFS passwords, labels hold what people put there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from backupd.volume import Volume

REDACTED = "(redacted)"
_NAME = re.compile(r"passw|passphrase|secret|token|credential|api.?key|private.?key", re.IGNORECASE)
_VALUE = re.compile(r"(?:passw\w*|secret|token|credentials?)\s*=|://[^/\s:]*:[^/\s@]+@", re.IGNORECASE)


def redact(volume: Volume) -> tuple[Volume, tuple[str, ...]]:
    """The volume with every value that looks secret replaced, and the names of these: `options.o`."""
    options, hidden_options = _redact(volume.options, "options")
    labels, hidden_labels = _redact(volume.labels, "labels")
    return replace(volume, options=options, labels=labels), (*hidden_options, *hidden_labels)


def _redact(values: Mapping[str, str], kind: str) -> tuple[dict[str, str], list[str]]:
    hidden = [name for name, value in values.items() if _NAME.search(name) or _VALUE.search(value)]
    kept = {name: REDACTED if name in hidden else value for name, value in values.items()}
    return kept, [f"{kind}.{name}" for name in hidden]
