"""Keep secrets out of the manifest: volume options hold CIFS passwords, labels hold what people put there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from backupd.volume import Volume

REDACTED = "(redacted)"
_OPEN = ("com.docker.compose.", "backupd.")
_NAME = re.compile(
    r"passw|passphrase|secret|token|credential|api.?key|private.?key|^backupd\.(.*\.)?ping$", re.IGNORECASE
)
_VALUE = re.compile(r"(?:passw\w*|secret|token|credentials?)\s*=|://[^/\s:]*:[^/\s@]+@", re.IGNORECASE)


def redact(volume: Volume) -> tuple[Volume, tuple[str, ...]]:
    """The volume with every value that looks secret replaced, and the names of these: `options.o`."""
    options, hidden_options = _redact(volume.options, "options")
    labels, hidden_labels = _redact(volume.labels, "labels")
    return replace(volume, options=options, labels=labels), (*hidden_options, *hidden_labels)


def conceal(volume: Volume) -> tuple[Volume, dict[str, str]]:
    """The volume as anybody may see it, and the values of all else by name: `options.o`.

    For an encrypted repository, which keeps these where only an identity reads them: so nothing is left to a
    guess at what looks secret, but for the labels that say whose the volume is and how it is saved.
    """
    hidden = [name for name in volume.labels if not name.startswith(_OPEN) or _NAME.search(name)]
    concealed = {f"options.{name}": value for name, value in volume.options.items()}
    concealed |= {f"labels.{name}": volume.labels[name] for name in hidden}
    options = dict.fromkeys(volume.options, REDACTED)
    labels = {**volume.labels, **dict.fromkeys(hidden, REDACTED)}
    return replace(volume, options=options, labels=labels), concealed


def _redact(values: Mapping[str, str], kind: str) -> tuple[dict[str, str], list[str]]:
    hidden = [name for name, value in values.items() if _NAME.search(name) or _VALUE.search(value)]
    kept = {name: REDACTED if name in hidden else value for name, value in values.items()}
    return kept, [f"{kind}.{name}" for name in hidden]
