"""The manifest: the small JSON object that makes a snapshot exist (docs/FORMAT.md)."""

from __future__ import annotations

import builtins
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from backupd.errors import ObjectDamaged, RepositoryUnsupported
from backupd.volume import Volume

FORMAT = 1
MANIFEST_LIMIT_BYTES = 64 * 1024

Consistency = Literal["clean-stop", "hooks", "crash-consistent", "fuzzy"]
"""The strongest first."""


@dataclass(frozen=True)
class Compose:
    """The compose project of a volume and the services of it that used the volume."""

    project: str
    services: tuple[str, ...]


@dataclass(frozen=True)
class Quiesced:
    """How the containers were calmed, which ones by name, and for how long."""

    mode: str
    containers: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Tar:
    """Which tar wrote the stream."""

    kind: str
    version: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """Sizes: of the tar stream, of the files in it, of the chunks that were new, and of these as stored."""

    tar: int
    content: int
    new: int
    stored: int


@dataclass(frozen=True)
class Chunks:
    """How many chunks the stream has, how many were new, the smallest and the largest in bytes."""

    count: int
    new: int
    min: int
    max: int


@dataclass(frozen=True)
class Sidecars:
    """SHA-256 of the chunk list and of the index, as stored."""

    chunks: str
    index: str


@dataclass(frozen=True)
class Window:
    """The quiet in which several volumes were read: its run, all of them by name, from when to when."""

    run: str
    volumes: tuple[str, ...]
    began: datetime
    ended: datetime


@dataclass(frozen=True)
class Manifest:
    """One snapshot: what it is of, when and how it was taken, and what it takes to trust it."""

    snapshot: str
    host: str
    volume: Volume
    started: datetime
    finished: datetime
    consistency: Consistency
    quiesced: Quiesced
    tar: Tar
    members: Mapping[str, int]
    bytes: Sizes
    chunks: Chunks
    sidecars: Sidecars
    outcome: Literal["ok", "fuzzy"]
    tool: str
    compose: Compose | None = None
    parent: str | None = None
    skipped: int = 0
    redacted: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    collapsed_from: str | None = None
    required_features: tuple[str, ...] = field(default=())
    encrypted: bool = False
    window: Window | None = None

    @property
    def stem(self) -> str:
        """What the keys of all its objects begin with, up to the dot."""
        return f"{prefix(self.host, self.volume.name)}{self.snapshot}"

    @property
    def key(self) -> str:
        """The manifest's key in a storage."""
        return f"{self.stem}.json"

    @property
    def chunks_key(self) -> str:
        """The chunk list's key in a storage."""
        return f"{self.stem}.chunks.zst"

    @property
    def index_key(self) -> str:
        """The index's key in a storage."""
        return index_key(self.stem, encrypted=self.encrypted)

    def as_json(self) -> dict[str, Any]:
        """The manifest as JSON values."""
        values = asdict(self)
        if self.collapsed_from is None:
            del values["collapsed_from"]
        values["started"], values["finished"] = _timestamp(self.started), _timestamp(self.finished)
        if not self.encrypted:
            del values["encrypted"]
        if self.window is None:
            del values["window"]
        else:
            began, ended = _timestamp(self.window.began), _timestamp(self.window.ended)
            values["window"] |= {"began": began, "ended": ended}
        return {"format": FORMAT, **values}

    def encode(self) -> builtins.bytes:
        """The bytes of the manifest object."""
        return json.dumps(self.as_json(), ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def decode(data: bytes, *, key: str, checked: bool = False) -> Manifest:
    """The manifest in `data`; `ObjectDamaged` where it is none, `RepositoryUnsupported` where it is newer.

    Data that this function has let pass before, `checked`, takes a third of the time.
    """
    values = parse_object(data, key=key, checked=checked)
    check_format(values, key=key)
    try:
        return _manifest(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ObjectDamaged(f"{key} is not a manifest: {error!r}") from error


def parse_object(data: bytes, *, key: str, checked: bool = False) -> dict[str, Any]:
    """The JSON object in `data`, read strictly: no duplicate keys, no NaN; `ObjectDamaged` otherwise."""
    try:
        if checked:
            values = json.loads(data)
        else:
            values = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ObjectDamaged(f"{key} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ObjectDamaged(f"{key} is not a JSON object")
    return values


def check_format(values: Mapping[str, Any], *, key: str) -> None:
    """`RepositoryUnsupported` unless this version reads all that `format` and `required_features` name."""
    hint = "a newer backupd wrote it: use that version or a later one"
    if values.get("format") != FORMAT:
        raise RepositoryUnsupported(f"{key} has format {values.get('format')!r}, not {FORMAT}", hint=hint)
    if features := values.get("required_features"):
        raise RepositoryUnsupported(f"{key} needs features this version lacks: {features}", hint=hint)


def new_id(now: datetime) -> str:
    """A snapshot id for a snapshot begun at `now`, an aware time: sortable, readable, unique by chance."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def prefix(host: str, volume: str) -> str:
    """What the keys of every snapshot of a host's volume begin with."""
    return f"snapshots/{host}/{volume}/"


def index_key(stem: str, *, encrypted: bool) -> str:
    """The key of the index of the snapshot whose keys begin with `stem`."""
    return f"{stem}.index.zst.age" if encrypted else f"{stem}.index.zst"


def _manifest(values: Mapping[str, Any]) -> Manifest:
    compose = values["compose"]
    quiesced, tar = values["quiesced"], values["tar"]
    return Manifest(
        snapshot=str(values["snapshot"]),
        host=str(values["host"]),
        volume=Volume(**values["volume"]),
        started=_moment(values["started"]),
        finished=_moment(values["finished"]),
        consistency=values["consistency"],
        quiesced=Quiesced(quiesced["mode"], tuple(quiesced["containers"]), float(quiesced["seconds"])),
        tar=Tar(tar["kind"], tar["version"], tuple(tar["flags"])),
        members={str(kind): int(count) for kind, count in values["members"].items()},
        bytes=Sizes(**values["bytes"]),
        chunks=Chunks(**values["chunks"]),
        sidecars=Sidecars(**values["sidecars"]),
        outcome=values["outcome"],
        tool=str(values["tool"]),
        compose=Compose(compose["project"], tuple(compose["services"])) if compose else None,
        parent=values["parent"],
        skipped=int(values["skipped"]),
        redacted=tuple(values["redacted"]),
        warnings=tuple(values["warnings"]),
        collapsed_from=_optional(values.get("collapsed_from")),
        encrypted=bool(values.get("encrypted")),
        window=_window(values.get("window")),
    )


def _window(values: Mapping[str, Any] | None) -> Window | None:
    if values is None:
        return None
    return Window(
        run=str(values["run"]),
        volumes=tuple(str(name) for name in values["volumes"]),
        began=_moment(values["began"]),
        ended=_moment(values["ended"]),
    )


def _optional(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{value!r} is no text")


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time without a zone: {text}")
    return moment


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("duplicate keys")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
