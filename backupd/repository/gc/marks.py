"""Which chunks the snapshots name: every chunk list is read, in bounded memory."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, groupby, islice

from backupd.errors import Interrupted, ObjectDamaged, ObjectNotFound
from backupd.progress import Progress, Tally
from backupd.repository.encryption.chunkkeys import SNAPSHOT_ID
from backupd.repository.encryption.fingerprints import Fingerprints
from backupd.repository.sidecar import read_lines
from backupd.snapshot import MANIFEST_LIMIT_BYTES, Manifest, decode
from backupd.storage.base import ObjectInfo, Storage

_AHEAD = 16
_KEY = re.compile(rf"chunks/([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})(\.{SNAPSHOT_ID})?\.zst(?:\.age)?".encode())
_NAME = re.compile(r"snapshots/([^/]+/[^/]+/[^/.]+)\.[^/]+")


class Marks:
    """The keys of chunks that are named; says yes wrongly almost never, and never no."""

    def __init__(self) -> None:
        self._named = Fingerprints()

    def __len__(self) -> int:
        return len(self._named)

    def add(self, key: bytes) -> bool:
        """Remember a key; False if it is none of a chunk."""
        match = _KEY.fullmatch(key)
        if match is not None:
            self._named.add(_digest(match))
        return match is not None

    def __contains__(self, key: str) -> bool:
        match = _KEY.fullmatch(key.encode())
        return match is not None and _digest(match) in self._named


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


def mark(storage: Storage, manifest_keys: list[str], *, progress: Progress, cancel: threading.Event) -> Marks:
    """The keys that these manifests' chunk lists name. Whatever cannot be read raises.

    A manifest that is gone was forgotten meanwhile, and names nothing.
    """
    marks = Marks()
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
                    if not marks.add(line):
                        raise ObjectDamaged(f"{list_key} names {line[:100]!r}, which is no chunk")
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


def _digest(match: re.Match[bytes]) -> str:
    if match[3] is None:
        return match[2].decode()
    return hashlib.blake2b(match[0], digest_size=8).hexdigest()


def _name(key: str) -> str | None:
    match = _NAME.fullmatch(key)
    return match[1] if match else None
