"""Reading one snapshot: its chunk list, its index, its tar stream or parts of it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from itertools import islice

from backupd.errors import ObjectDamaged
from backupd.repository.chunks import ChunkStore
from backupd.repository.encryption.encryption import Encryption
from backupd.repository.fetch import Fetch
from backupd.repository.sidecar import read_lines
from backupd.repository.slices import Slice
from backupd.repository.stream import index
from backupd.repository.stream.index import IndexEntry
from backupd.snapshot import Manifest
from backupd.storage.base import Storage

_AT_ONCE = 16


class SnapshotReader:
    """A committed snapshot. All it returns was checked against hashes that the manifest vouches for."""

    def __init__(
        self, storage: Storage, chunks: ChunkStore, encryption: Encryption | None, manifest: Manifest
    ) -> None:
        self._encryption = encryption
        self._storage = storage
        self._chunks = chunks
        self.manifest = manifest

    def slices(self) -> Iterator[Slice]:
        """Where the chunks lie, in tar order."""
        key = self.manifest.chunks_key
        for line in read_lines(self._storage, key, sha256=self.manifest.sidecars.chunks):
            yield Slice.parse(line, key)

    def members(self) -> Iterator[IndexEntry]:
        """The index, in tar order."""
        lines = self._index_lines()
        if self._encryption:
            next(lines, None)
        for line in lines:
            yield index.decode(line, key=self.manifest.index_key)

    def concealed(self) -> dict[str, str]:
        """What the manifest does not say of the volume, by the names in its `redacted`: `options.o`."""
        if self._encryption is None:
            return {}
        with closing(self._index_lines()) as lines:
            return index.decode_concealed(next(lines, b""), key=self.manifest.index_key)

    def check_readable(self) -> None:
        """`KeyMissing` where the repository is encrypted and there is no identity to read it with."""
        if self._encryption:
            self._encryption.check_readable()

    def _index_lines(self) -> Generator[bytes, None, None]:
        manifest = self.manifest
        return read_lines(
            self._storage, manifest.index_key, sha256=manifest.sidecars.index, encryption=self._encryption
        )

    def check_present(self) -> None:
        """`ObjectDamaged`, naming the first, unless every chunk is there; contents are not read."""
        missing, example = 0, ""
        for each in self._missing():
            missing, example = missing + 1, example or str(each)
        if missing:
            raise ObjectDamaged(
                f"snapshot {self.manifest.snapshot} is damaged: {missing} chunks missing, first {example}",
                hint="restore an earlier snapshot, or bring the packs back from a copy of the repository",
            )

    def _missing(self) -> Iterator[Slice]:
        """The slices whose packs are absent or too short, unless another pack has the chunk."""
        ends: dict[str, int] = {}
        for each in self.slices():
            ends[each.pack] = max(each.end, ends.get(each.pack, 0))
        sizes = self._sizes(ends)
        there = cache(self._storage.exists)
        short = {pack for pack, end in ends.items() if end > sizes.get(pack, 0)}
        for each in self.slices() if short else ():
            if each.pack not in short or each.end <= sizes.get(each.pack, 0):
                continue
            # A listing may lack what is there.
            found = each.pack not in sizes and there(each.pack)
            if not found and not any(there(other.pack) for other in self._chunks.others(each)):
                yield each

    def _sizes(self, packs: Collection[str]) -> dict[str, int]:
        """How large these packs are, as the storage lists them: they lie in few folders."""
        folders = sorted({pack.rpartition("/")[0] for pack in packs})
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="present") as pool:
            listings = pool.map(lambda folder: list(self._storage.list(f"{folder}/")), folders)
            return {info.key: info.size_bytes for infos in listings for info in infos if info.key in packs}

    def stream(
        self, cancel: threading.Event, first: int = 0, last: int | None = None
    ) -> Generator[bytes, None, None]:
        """The contents of the chunks from `first` to `last`, both included, in order: the tar stream.

        They are fetched, decoded and checked ahead in parallel; see `Fetch`.
        """
        slices = islice(self.slices(), first, None if last is None else last + 1)
        what = f"reading snapshot {self.manifest.snapshot}"
        return Fetch(self._storage, self._chunks).contents(slices, cancel=cancel, what=what)
