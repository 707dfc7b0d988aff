"""Keys that count as absent: a collector is about to delete them, or verify found them damaged."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import chain
from typing import Literal, cast

import zstandard

from backupd.errors import ObjectDamaged, ObjectNotFound, RepositoryError, RepositoryUnsupported
from backupd.repository.encryption.chunkkeys import ID_BYTES, SNAPSHOT_ID, chunk_of, ending_of, stem_of
from backupd.repository.encryption.fingerprints import Fingerprints
from backupd.repository.sidecar import SidecarWriter
from backupd.storage.base import ObjectInfo, Storage

Kind = Literal["condemned", "damaged", "waiting", "finished"]

_SET_KEY = re.compile(rf"gc/({SNAPSHOT_ID})\.(condemned|damaged|waiting|finished)\.zst")
_BLOCK = 256 * 1024
_LINE_LIMIT_BYTES = 1024


@dataclass(frozen=True)
class Set:
    """An object under gc/: `condemned` and `damaged` name chunks' keys, `waiting` names sessions.

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


def names_in(storage: Storage, found: Set) -> Iterator[str]:
    """The names in a set; `ObjectDamaged` unless it is whole, `ObjectNotFound` where it is gone by now."""
    key = found.info.key
    rest = b""
    stream = zstandard.ZstdDecompressor().decompressobj()
    try:
        with storage.open(key) as file:
            while not stream.eof and (block := file.read(_BLOCK)):
                *lines, rest = (rest + stream.decompress(block)).split(b"\n")
                yield from (line.decode() for line in lines)
                if len(rest) > _LINE_LIMIT_BYTES:
                    raise ObjectDamaged(f"{key} is damaged: a line is too long")
            whole = stream.eof and not stream.unused_data and not rest and not file.read(1)
    except (zstandard.ZstdError, UnicodeDecodeError) as error:
        raise ObjectDamaged(f"{key} is damaged: {error}") from error
    if not whole:
        raise ObjectDamaged(f"{key} is damaged: it is not one whole zstd frame of lines")


class Keys:
    """Keys of chunks, added in order, in 32 bytes each."""

    def __init__(self) -> None:
        self._ids: dict[str, bytearray] = {}

    def add(self, key: str) -> None:
        """Append a key; ValueError unless it is one of a chunk, and comes after those with its ending."""
        chunk, ending = chunk_of(key), ending_of(key)
        if chunk is None or ending is None:
            raise ValueError(f"{key!r} is no chunk")
        ids, new = self._ids.setdefault(ending, bytearray()), bytes.fromhex(chunk)
        if ids and ids[-ID_BYTES:] >= new:
            raise ValueError("keys are not sorted")
        ids += new

    def __iter__(self) -> Iterator[str]:
        return merge(*(self._with(ending) for ending in self._ids))

    def __contains__(self, key: str) -> bool:
        chunk, ending = chunk_of(key), ending_of(key)
        return chunk is not None and ending is not None and _holds(self._ids.get(ending, b""), chunk)

    def __len__(self) -> int:
        return sum(len(ids) for ids in self._ids.values()) // ID_BYTES

    def names(self, chunk: str) -> bool:
        """Whether any key of the chunk is among them."""
        return any(_holds(ids, chunk) for ids in self._ids.values())

    def chunks(self) -> Iterator[str]:
        """The ids of the chunks, some of them twice where two keys of one are named."""
        for ids in self._ids.values():
            yield from _digests(ids)

    def _with(self, ending: str) -> Iterator[str]:
        return (stem_of(chunk) + ending for chunk in _digests(self._ids[ending]))


class Condemned:
    """All sets of keys under gc/, as they were at one time."""

    def __init__(self, loaded: Iterable[tuple[str, Keys]] = ()) -> None:
        self._sets = sorted(loaded, key=lambda each: each[0], reverse=True)
        self._chunks = Fingerprints()
        for _, keys in self._sets:
            for chunk in keys.chunks():
                self._chunks.add(chunk)

    @classmethod
    def load(cls, storage: Storage) -> Condemned:
        """The sets of a storage, each read whole; one that is damaged raises."""
        naming = (found for found in sets(storage) if found.kind in ("condemned", "damaged"))
        return cls((found.id, load_keys(storage, found)) for found in naming)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(keys for _, keys in self._sets)

    def __contains__(self, key: str) -> bool:
        chunk = chunk_of(key)
        return chunk is not None and chunk in self._chunks and any(key in keys for _, keys in self._sets)

    def key_for(self, chunk: str, suffix: str) -> str:
        """The key under which a chunk is looked up and stored: one that no set names.

        It is the plain key unless a set names any key of the chunk; then it bears the id of the newest such
        set whose own key of the chunk is not named in turn. There is one: a key that bears a set's id can
        only be named by a set that came after it, whatever the clocks said when their ids were made.
        """
        stem = stem_of(chunk)
        if chunk not in self._chunks:
            return stem + suffix
        naming = [set_id for set_id, keys in self._sets if keys.names(chunk)]
        if not naming:
            return stem + suffix
        for set_id in naming:
            if (key := f"{stem}.{set_id}{suffix}") not in self:
                return key
        raise RepositoryError(
            f"the sets {', '.join(naming)} under gc/ leave no name for chunk {chunk}",
            hint="one of them was not made by backupd; move it away",
        )


def load_keys(storage: Storage, found: Set) -> Keys:
    """The keys in a set; none where it has been removed since it was listed: it was old enough for that."""
    keys = Keys()
    try:
        for name in names_in(storage, found):
            keys.add(name)
    except ObjectNotFound:
        return Keys()
    except ValueError as error:
        raise ObjectDamaged(f"{found.info.key} is damaged: {error}") from error
    return keys


def _digests(ids: bytearray) -> Iterator[str]:
    return (ids[at : at + ID_BYTES].hex() for at in range(0, len(ids), ID_BYTES))


def _holds(ids: bytes | bytearray, chunk: str) -> bool:
    wanted = bytes.fromhex(chunk)
    count = len(ids) // ID_BYTES
    at = bisect_left(range(count), wanted, key=lambda n: bytes(ids[n * ID_BYTES : (n + 1) * ID_BYTES]))
    return at < count and ids[at * ID_BYTES : (at + 1) * ID_BYTES] == wanted
