"""New settings for a daemon that runs: what can change in place does, the rest is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from backupd.settings import Settings

FIXED = (
    "storage",
    "state_dir",
    "instance",
    "host",
    "docker_host",
    "encryption",
    "web",
    "notify",
    "s3.endpoint",
    "s3.region",
    "s3.path_style",
)
"""Settings, and whole sections, that a daemon keeps until it is started anew."""


@dataclass(frozen=True)
class Reloaded:
    """The settings that hold now, which of them changed, and which wait for a restart; by dotted names."""

    settings: Settings
    changed: tuple[str, ...]
    restart: tuple[str, ...]


def reloaded(now: Settings, new: Settings) -> Reloaded:
    """Take over from `new` what may change while the daemon runs."""
    before, after = dict(_flat(now)), dict(_flat(new))
    names = [name for name in after if before[name] != after[name]]
    restart = [name for name in names if _fixed(name)]
    return Reloaded(
        _keeping(new, now, restart),
        changed=tuple(name for name in names if not _fixed(name)),
        restart=tuple(restart),
    )


def _fixed(name: str) -> bool:
    return any(name == fixed or name.startswith(f"{fixed}.") for fixed in FIXED)


def _flat(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _keeping(new: Settings, now: Settings, names: list[str]) -> Settings:
    """`new` with the values that these names have in `now`."""
    update: dict[str, Any] = {}
    for name in names:
        section, _, inner = name.rpartition(".")
        if section:
            kept = {inner: getattr(getattr(now, section), inner)}
            update[section] = update.get(section, getattr(new, section)).model_copy(update=kept)
        else:
            update[name] = getattr(now, name)
    return new.model_copy(update=update)
