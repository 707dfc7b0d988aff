"""The index of a snapshot: one JSON line for each member (docs/FORMAT.md, "The index")."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Any

from backupd.errors import ObjectDamaged
from backupd.repository.stream.tarstream import Member


@dataclass(frozen=True)
class IndexEntry:
    """One member of a snapshot: what it is, and where in the stream and in which chunks it lies.

    `path` and `target` are bytes as in the stream; `mtime` is in nanoseconds; `first` and `last` count the
    snapshot's chunks from 0; `skip` bytes of the first one come before the member's head.
    """

    path: bytes
    type: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    target: bytes
    offset: int
    first: int
    last: int
    skip: int


def encode(member: Member, offset: int, first: int, last: int, skip: int) -> bytes:
    """The line for a member, without its end."""
    target = _text("target", member.target) + "," if member.target else ""
    return (
        f'{{{_text("path", member.path)},"type":"{member.type}","size":{member.size},"mode":{member.mode},'
        f'"uid":{member.uid},"gid":{member.gid},"mtime":{member.mtime},{target}'
        f'"offset":{offset},"chunk":[{first},{last}],"skip":{skip}}}'
    ).encode("ascii")


def decode(line: bytes, *, key: str) -> IndexEntry:
    """The entry in a line of the index stored under `key`; `ObjectDamaged` if it is none."""
    try:
        values = json.loads(line)
        first, last = values["chunk"]
        return IndexEntry(
            path=_bytes(values, "path"),
            type=str(values["type"]),
            size=int(values["size"]),
            mode=int(values["mode"]),
            uid=int(values["uid"]),
            gid=int(values["gid"]),
            mtime=int(values["mtime"]),
            target=_bytes(values, "target"),
            offset=int(values["offset"]),
            first=int(first),
            last=int(last),
            skip=int(values["skip"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ObjectDamaged(f"{key} holds a line that is no member: {error!r}") from error


def encode_concealed(values: Mapping[str, str]) -> bytes:
    """The first line of an encrypted index: what the manifest does not say of the volume."""
    return json.dumps({"concealed": dict(values)}, separators=(",", ":"), sort_keys=True).encode("ascii")


def decode_concealed(line: bytes, *, key: str) -> dict[str, str]:
    """What `encode_concealed` was given; `ObjectDamaged` if the line of the index under `key` is another."""
    try:
        return {str(name): str(value) for name, value in json.loads(line)["concealed"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ObjectDamaged(f"{key} does not begin with what it conceals: {error!r}") from error


def _text(name: str, value: bytes) -> str:
    try:
        return f'"{name}":{encode_basestring_ascii(value.decode("utf-8"))}'
    except UnicodeDecodeError:
        return f'"{name}_bytes":"{base64.b64encode(value).decode("ascii")}"'


def _bytes(values: dict[str, Any], name: str) -> bytes:
    if (encoded := values.get(f"{name}_bytes")) is not None:
        return base64.b64decode(encoded, validate=True)
    return str(values[name] if name == "path" else values.get(name, "")).encode("utf-8")
