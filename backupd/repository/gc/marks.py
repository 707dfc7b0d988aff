"""What the snapshots name: every chunk list is read, in bounded memory."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, groupby, islice

from backupd.errors import Interrupted, ObjectDamaged, ObjectNotFound
from backupd.progress import Progress, Tally
from backupd.repository.gc.fingerprints import Fingerprints
from backupd.repository.sidecar import read_lines
from backupd.repository.slices import Slice
from backupd.snapshot import MANIFEST_LIMIT_BYTES, Manifest, decode
from backupd.storage.base import ObjectInfo, Storage

_AHEAD = 16
_NAME = re.compile(r"snapshots/([^/]+/[^/]+/[^/.]+)\.[^/]+")


class Marks:
    """How much of each pack is named; a pack is said to be named wrongly almost never, and unnamed never."""

    def __init__(self, damaged: Iterable[str] = ()) -> None:
        """Of what is named in `damaged` packs the ids are remembered, too, as `needed`."""
        self.needed = Fingerprints()
        self._slices = Fingerprints()
        self._used: dict[int, int] = {}
        self._damaged = frozenset(damaged)

    def __len__(self) -> int:
        """How many different slices are named."""
        return len(self._slices)

    def add(self, line: bytes, key: str) -> None:
        """Remember a line of the chunk list under `key`; `ObjectDamaged` if it is none."""
        if self._slices.add(line):
            found = Slice.parse(line, key)
            pack = hash(found.pack)
            self._used[pack] = self._used.get(pack, 0) + found.length
            if found.pack in self._damaged:
                self.needed.add(found.chunk.encode())

    def used_bytes(self, pack: str) -> int:
        """How many bytes of a pack are named; 0 if it is not."""
        return self._used.get(hash(pack), 0)

    def __contains__(self, pack: str) -> bool:
        return hash(pack) in self._used


@dataclass(frozen=True)
class Belongings:
    """All objects of one snapshot, whose `name` is `<host>/<volume>/<snapshot>`."""

    name: str
    objects: tuple[ObjectInfo, ...]

    @property
    def manifest_key(self) -> str:
        """The key that its manifest has, or would have."""
        return f"snapshots/{self.name}.json"

    @property
    def complete(self) -> bool:
        """Whether its manifest was listed."""
        return any(info.key == self.manifest_key for info in self.objects)


def belongings(infos: Iterable[ObjectInfo]) -> Iterator[Belongings]:
    """A listing of `snapshots/` by snapshot; what has another name than they have is passed over."""
    for name, group in groupby(infos, key=lambda info: _name(info.key)):
        if name is not None:
            yield Belongings(name, tuple(group))


def mark(
    storage: Storage,
    manifest_keys: list[str],
    *,
    damaged: Iterable[str] = (),
    progress: Progress,
    cancel: threading.Event,
) -> Marks:
    """What these manifests' chunk lists name. Whatever cannot be read raises.

    A manifest that is gone was forgotten meanwhile, and names nothing.
    """
    marks = Marks(damaged)
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="mark") as pool:
        pending: deque[Future[tuple[str, Iterator[bytes]]]] = deque()
        waiting = iter(manifest_keys)
        try:
            pending.extend(pool.submit(_fetch, storage, key) for key in islice(waiting, _AHEAD))
            for done in range(len(manifest_keys)):
                if cancel.is_set():
                    raise Interrupted("the prune was told to stop; nothing was deleted")
                list_key, lines = pending.popleft().result()
                pending.extend(pool.submit(_fetch, storage, key) for key in islice(waiting, 1))
                for line in lines:
                    marks.add(line, list_key)
                progress(Tally(0, done + 1))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return marks


def _fetch(storage: Storage, key: str) -> tuple[str, Iterator[bytes]]:
    """A chunk list's key and lines, fetched and checked as a whole."""
    try:
        manifest = decode(storage.get(key, limit_bytes=MANIFEST_LIMIT_BYTES), key=key)
    except ObjectNotFound:
        return key, iter(())
    if manifest.key != key:
        raise ObjectDamaged(f"{key} is the manifest of another snapshot, {manifest.key}")
    return manifest.chunks_key, _lines(storage, manifest)


def _lines(storage: Storage, manifest: Manifest) -> Iterator[bytes]:
    lines = read_lines(storage, manifest.chunks_key, sha256=manifest.sidecars.chunks)
    try:
        return chain(list(islice(lines, 1)), lines)
    except ObjectNotFound as error:
        if not storage.exists(manifest.key):
            return iter(())
        raise ObjectDamaged(
            f"{manifest.chunks_key} is missing, which snapshot {manifest.snapshot} needs",
            hint="forget that snapshot, or bring the object back; until then nothing can be pruned",
        ) from error


def _name(key: str) -> str | None:
    match = _NAME.fullmatch(key)
    return match[1] if match else None
