"""Many manifests at once: what was read before comes from the cache, the rest in parallel."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from backupd.errors import BackupdError
from backupd.repository.cache import Cache
from backupd.snapshot import MANIFEST_LIMIT_BYTES, Manifest
from backupd.storage.base import Storage

_THREADS = 16
_PAGE = 1000


class Decode(Protocol):
    """Makes a manifest of bytes, `checked` ones faster; raises where they are none."""

    def __call__(self, data: bytes, *, key: str, checked: bool = False) -> Manifest: ...


class Manifests:
    """The manifests of a storage; they never change, so that a copy in the cache is as good."""

    def __init__(self, storage: Storage, cache: Cache, decode: Decode) -> None:
        """`decode` makes a manifest of the bytes of one; see `snapshot.decode`."""
        self._storage = storage
        self._cache = cache
        self._decode = decode

    def load(self, key: str) -> Manifest:
        """The manifest as the storage has it; see `decode` for the errors."""
        return self._decode(self._get(key), key=key)

    def load_all(self, prefix: str, keys: Sequence[str]) -> Iterator[Manifest | BackupdError]:
        """The manifests under these keys, all of which begin with the prefix, or why one cannot be read."""
        cached = self._cache.manifests(prefix)
        read = self._read_all([key for key in keys if key not in cached])
        for key in keys:
            yield self._known(cached[key], key) if key in cached else next(read)

    def forget_all_but(self, keys: Collection[str]) -> None:
        """Let the cache forget the manifests that are no more."""
        self._cache.forget_manifests(self._cache.manifest_keys() - frozenset(keys))

    def _known(self, cached: bytes, key: str) -> Manifest | BackupdError:
        try:
            return self._decode(cached, key=key, checked=True)
        except BackupdError:
            return self._read(key)[1]

    def _read_all(self, keys: Sequence[str]) -> Iterator[Manifest | BackupdError]:
        for at in range(0, len(keys), _PAGE):
            page = keys[at : at + _PAGE]
            with ThreadPoolExecutor(_THREADS, thread_name_prefix="manifests") as pool:
                read = list(pool.map(self._read, page))
            self._cache.keep_manifests(
                (key, data)
                for key, (data, found) in zip(page, read, strict=True)
                if isinstance(found, Manifest)
            )
            yield from (found for _, found in read)

    def _read(self, key: str) -> tuple[bytes, Manifest | BackupdError]:
        try:
            data = self._get(key)
            return data, self._decode(data, key=key)
        except BackupdError as error:
            return b"", error

    def _get(self, key: str) -> bytes:
        return self._storage.get(key, limit_bytes=MANIFEST_LIMIT_BYTES)
