"""The objects under gc/: named sets of packs, or of sessions (docs/FORMAT.md, "Sets")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

import zstandard

from backupd.errors import ObjectDamaged, ObjectNotFound, RepositoryUnsupported
from backupd.repository.sidecar import SidecarWriter
from backupd.repository.slices import SNAPSHOT_ID, is_pack
from backupd.storage.base import ObjectInfo, Storage

Kind = Literal["condemned", "damaged", "sparse", "waiting", "finished"]

_SET_KEY = re.compile(rf"gc/({SNAPSHOT_ID})\.(condemned|damaged|sparse|waiting|finished)\.zst")
_BLOCK = 256 * 1024
_LINE_LIMIT_BYTES = 1024


@dataclass(frozen=True)
class Set:
    """An object under gc/: `condemned`, `damaged` and `sparse` name packs, `waiting` names sessions.

    `finished` names nothing: the collection of that id has deleted what it was to delete.
    """

    id: str
    kind: Kind
    info: ObjectInfo

    @property
    def modified(self) -> datetime:
        """When the storage's own clock wrote it."""
        return self.info.modified


def sets(storage: Storage) -> list[Set]:
    """What lies under gc/, oldest id first; `RepositoryUnsupported` where something there is not known."""
    found = []
    for info in storage.list("gc/"):
        match = _SET_KEY.fullmatch(info.key)
        if match is None:
            raise RepositoryUnsupported(
                f"{storage.location} holds {info.key}, which this version does not know",
                hint="a newer backupd collects garbage there: use that version or a later one",
            )
        found.append(Set(match[1], cast(Kind, match[2]), info))
    return found


def put_set(storage: Storage, set_id: str, kind: Kind, names: Iterable[str]) -> bool:
    """Store a set of names, which must come sorted, durably; False where its id is taken."""
    key = f"gc/{set_id}.{kind}.zst"
    if storage.exists(key):
        return False
    with SidecarWriter() as lines:
        for name in names:
            lines.add(name.encode())
        lines.put(storage, key)
    storage.flush()
    return True


def packs_in(storage: Storage, found: Set) -> frozenset[str]:
    """The packs that a set names; none where it has been removed since it was listed, and so have they."""
    try:
        packs = list(names_in(storage, found))
    except ObjectNotFound:
        return frozenset()
    for before, pack in zip(["", *packs], packs, strict=False):
        if not is_pack(pack) or pack <= before:
            raise ObjectDamaged(f"{found.info.key} is damaged: {pack!r} is no pack, or not in its place")
    return frozenset(packs)


def names_in(storage: Storage, found: Set) -> Iterator[str]:
    """The names in a set; `ObjectDamaged` unless it is whole, `ObjectNotFound` where it is gone by now."""
    try:
        yield from (line.decode() for line in lines_in(storage, found.info.key))
    except UnicodeDecodeError as error:
        raise ObjectDamaged(f"{found.info.key} is damaged: {error}") from error


def lines_in(storage: Storage, key: str) -> Iterator[bytes]:
    """The lines of an object of which nobody knows the hash; like `names_in`."""
    rest = b""
    stream = zstandard.ZstdDecompressor().decompressobj()
    try:
        with storage.open(key) as file:
            while not stream.eof and (block := file.read(_BLOCK)):
                *lines, rest = (rest + stream.decompress(block)).split(b"\n")
                yield from lines
                if len(rest) > _LINE_LIMIT_BYTES:
                    raise ObjectDamaged(f"{key} is damaged: a line is too long")
            whole = stream.eof and not stream.unused_data and not rest and not file.read(1)
    except zstandard.ZstdError as error:
        raise ObjectDamaged(f"{key} is damaged: {error}") from error
    if not whole:
        raise ObjectDamaged(f"{key} is damaged: it is not one whole zstd frame of lines")
