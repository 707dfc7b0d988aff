"""The repository: snapshots of any number of hosts on one storage (docs/FORMAT.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import resources
from pathlib import Path

from backupd.errors import (
    BackupdError,
    ConfigError,
    ObjectDamaged,
    ObjectNotFound,
    RepositoryError,
    RepositoryMissing,
    UsageError,
)
from backupd.repository.cache import Cache
from backupd.repository.catalogue import Catalogue
from backupd.repository.chunks import ChunkStore
from backupd.repository.encryption.encryption import Encryption
from backupd.repository.encryption.keys import Keys, write_id_key
from backupd.repository.encryption.sealed import SealedCodec
from backupd.repository.manifests import Manifests
from backupd.repository.marker import MARKER, new_marker, read_marker
from backupd.repository.reader import SnapshotReader
from backupd.repository.stream.codec import Codec
from backupd.repository.writer import SnapshotWriter
from backupd.snapshot import MANIFEST_LIMIT_BYTES, Manifest, decode
from backupd.storage.base import Storage

_NO_KEYS = Keys()
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Repository(Catalogue):
    """An opened repository: its snapshots, and how they are read and written."""

    def __init__(
        self,
        storage: Storage,
        identity: str,
        encryption: Encryption | None = None,
        *,
        cache: Cache | None = None,
    ) -> None:
        self.id = identity
        self.cache = cache or Cache()
        self.chunks = ChunkStore(storage, SealedCodec(encryption) if encryption else Codec(), self.cache)
        self._encryption = encryption
        super().__init__(storage, Manifests(storage, self.cache, partial(_decode, encryption)))

    @classmethod
    def init(cls, storage: Storage, keys: Keys = _NO_KEYS) -> Repository:
        """Make a repository in a storage that holds none; `RepositoryError` where one is already.

        With recipients or a passphrase it is encrypted, and its id_key is written to `keys.id_key_file`
        before anything is stored.
        """
        cls.refuse_existing(storage)
        marker, id_key = new_marker(keys, location=storage.location)
        with _kept(id_key, keys):
            storage.put("README.txt", resources.files(__package__).joinpath("README.txt").read_bytes())
            storage.put(MARKER, marker)
            storage.flush()
        return cls.open(storage, keys)

    @staticmethod
    def refuse_existing(storage: Storage) -> None:
        """`RepositoryError` where there is a repository."""
        if storage.exists(MARKER):
            raise RepositoryError(f"{storage.location} is a repository already", hint="use it as it is")

    @classmethod
    def open(
        cls,
        storage: Storage,
        keys: Keys = _NO_KEYS,
        *,
        caches: Path | None = None,
        note: Callable[[str], object] = lambda text: None,
    ) -> Repository:
        """The repository on a storage; `RepositoryMissing` or `RepositoryUnsupported` otherwise.

        `KeyMissing` or `WrongKey` unless `keys` are what an encrypted one takes: see `read_marker`.
        `caches` is a directory for what this machine remembers; `note` hears of trouble there.
        """
        try:
            data = storage.get(MARKER, limit_bytes=MANIFEST_LIMIT_BYTES)
        except ObjectNotFound:
            raise RepositoryMissing(
                f"{storage.location} is not a repository",
                hint="is the right disk mounted there? to make a new repository: backupd init",
            ) from None
        marker = read_marker(data, keys, location=storage.location)
        path = caches / f"{marker.id}.sqlite" if caches and _NAME.fullmatch(marker.id) else None
        return cls(storage, marker.id, marker.encryption, cache=Cache(path, note))

    def close(self) -> None:
        """Let go of the cache; the storage is the caller's."""
        self.cache.close()

    @property
    def encrypted(self) -> bool:
        """Whether what is stored can be read with an identity only."""
        return self._encryption is not None

    @property
    def readable(self) -> bool:
        """Whether what is stored can be read here."""
        return self._encryption is None or self._encryption.readable

    def check_readable(self) -> None:
        """`KeyMissing` unless what is stored can be read here."""
        if self._encryption:
            self._encryption.check_readable()

    def begin(self, *, host: str, volume: str, snapshot: str) -> SnapshotWriter:
        """A writer for a new snapshot of a host's volume."""
        for name in (host, volume):
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"{name!r} cannot be part of a snapshot's name",
                    hint="use letters, digits, _ . and -, a letter or digit first; see the setting `host`",
                )
        return SnapshotWriter(
            self.storage,
            self.chunks,
            self.cache,
            self._encryption,
            host=host,
            volume=volume,
            snapshot=snapshot,
        )

    def reader(self, manifest: Manifest) -> SnapshotReader:
        """A reader of a snapshot."""
        return SnapshotReader(self.storage, self.chunks, self._encryption, manifest)


def _decode(encryption: Encryption | None, data: bytes, *, key: str, checked: bool = False) -> Manifest:
    """The manifest in `data`, its MAC proven where there is one; see `snapshot.decode`."""
    if encryption is None:
        return decode(data, key=key, checked=checked)
    manifest = decode(encryption.verify("manifest", data, key=key), key=key, checked=checked)
    if manifest.key != key or not manifest.encrypted:
        raise ObjectDamaged(f"{key} is the manifest of another snapshot, {manifest.key}")
    return manifest


@contextmanager
def _kept(id_key: bytes | None, keys: Keys) -> Iterator[None]:
    """The id_key is in its file; not any more if storing the marker failed."""
    if id_key is None:
        yield
        return
    if keys.id_key_file is None:
        raise ConfigError("there is no place for the id_key", hint="set encryption.id_key_file")
    write_id_key(keys.id_key_file, id_key)
    try:
        yield
    except BackupdError:
        keys.id_key_file.unlink()
        raise
