"""The volumes: what is protected, and what cannot be."""

from __future__ import annotations

from collections.abc import Iterator

from backupd.doctor.finding import Finding, bad, good, note
from backupd.protection import Protection


def examine(found: tuple[Protection, ...]) -> Iterator[Finding]:
    """How many are protected, and each label or rule that makes no sense."""
    protected = sum(each.policy is not None for each in found)
    if protected:
        yield good("volumes", f"{protected} of {len(found)} are protected")
    else:
        yield note(
            "volumes",
            f"none of {len(found)} is protected",
            'label one: backupd.enable: "true" in the compose file; `backupd volumes` explains',
        )
    for each in found:
        yield from (bad("volumes", f"{each.volume.name}: {text}") for text in each.errors)
        yield from (note("volumes", f"{each.volume.name}: {text}") for text in each.warnings)
