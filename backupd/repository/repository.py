"""The repository: snapshots of any number of hosts on one storage (docs/FORMAT.md)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources

from backupd.errors import (
    BackupdError,
    ConfigError,
    IntegrityError,
    ObjectDamaged,
    ObjectNotFound,
    RepositoryError,
    RepositoryMissing,
    SnapshotNotFound,
    UsageError,
)
from backupd.repository.chunks import ChunkStore
from backupd.repository.codec import Codec
from backupd.repository.encryption import Encryption
from backupd.repository.history import ACCEPTED, Entry
from backupd.repository.keys import Keys, write_id_key
from backupd.repository.marker import MARKER, new_marker, read_marker
from backupd.repository.reader import SnapshotReader
from backupd.repository.sealed import SealedCodec
from backupd.repository.sessions import sessions
from backupd.repository.writer import SnapshotWriter
from backupd.snapshot import MANIFEST_LIMIT_BYTES, Manifest, decode
from backupd.storage.base import Storage

_NO_KEYS = Keys()
_MANIFEST_KEY = re.compile(r"snapshots/([^/]+)/([^/]+)/([^/]+)\.json")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class _Place:
    """Where one manifest lies."""

    key: str
    host: str
    volume: str
    snapshot: str
    accepted: bool


class Repository:
    """An opened repository."""

    def __init__(self, storage: Storage, identity: str, encryption: Encryption | None = None) -> None:
        self.storage = storage
        self.chunks = ChunkStore(storage, SealedCodec(encryption) if encryption else Codec())
        self.id = identity
        self._encryption = encryption

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
    def open(cls, storage: Storage, keys: Keys = _NO_KEYS) -> Repository:
        """The repository on a storage; `RepositoryMissing` or `RepositoryUnsupported` otherwise.

        `KeyMissing` or `WrongKey` unless `keys` are what an encrypted one takes: see `read_marker`.
        """
        try:
            data = storage.get(MARKER, limit_bytes=MANIFEST_LIMIT_BYTES)
        except ObjectNotFound:
            raise RepositoryMissing(
                f"{storage.location} is not a repository",
                hint="is the right disk mounted there? to make a new repository: backupd init",
            ) from None
        marker = read_marker(data, keys, location=storage.location)
        return cls(storage, marker.id, marker.encryption)

    @property
    def encrypted(self) -> bool:
        """Whether what is stored can be read with an identity only."""
        return self._encryption is not None

    def begin(self, *, host: str, volume: str, snapshot: str) -> SnapshotWriter:
        """A writer for a new snapshot of a host's volume."""
        for name in (host, volume):
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"{name!r} cannot be part of a snapshot's name",
                    hint="use letters, digits, _ . and -, a letter or digit first; see the setting `host`",
                )
        return SnapshotWriter(
            self.storage, self.chunks, self._encryption, host=host, volume=volume, snapshot=snapshot
        )

    def reader(self, manifest: Manifest) -> SnapshotReader:
        """A reader of a snapshot."""
        return SnapshotReader(self.storage, self.chunks, self._encryption, manifest)

    def latest_id(self, host: str, volume: str) -> str | None:
        """The id of the newest snapshot of a host's volume."""
        newest = self._newest(host, volume)
        return newest.snapshot if newest else None

    def latest(self, host: str, volume: str) -> Manifest | None:
        """The newest snapshot of a host's volume."""
        newest = self._newest(host, volume)
        return self._load(newest.key) if newest else None

    def snapshots(
        self,
        host: str | None = None,
        volume: str | None = None,
        *,
        damaged: Callable[[BackupdError], None] | None = None,
    ) -> list[Manifest]:
        """The snapshots, oldest first. An unreadable manifest raises, or is handed to `damaged`."""
        return [entry.manifest for entry in self.history(host, volume, damaged=damaged)]

    def history(
        self,
        host: str | None = None,
        volume: str | None = None,
        *,
        damaged: Callable[[BackupdError], None] | None = None,
    ) -> list[Entry]:
        """Like `snapshots`, with what was said of them later."""
        entries = []
        for place in sorted(self._places(host, volume), key=lambda place: place.snapshot):
            try:
                entries.append(Entry(self._load(place.key), place.accepted))
            except BackupdError as error:
                if damaged is None:
                    raise
                damaged(error)
        return entries

    def last_good(self, host: str, volume: str, *, before: str) -> Manifest | None:
        """The newest good snapshot of a host's volume that is older than the id `before`, else the newest.

        None where none is good. What cannot be read is passed over.
        """
        places = list(self._places(host, volume))
        for place in sorted(
            places, key=lambda place: (place.snapshot < before, place.snapshot), reverse=True
        ):
            with suppress(IntegrityError, RepositoryError, ObjectNotFound):
                entry = Entry(self._load(place.key), place.accepted)
                if entry.good:
                    return entry.manifest
        return None

    def volumes(self, host: str) -> list[str]:
        """The names of a host's volumes that have snapshots."""
        return sorted({place.volume for place in self._places(host, None)})

    def find(
        self,
        volume: str | None,
        selector: str = "latest",
        *,
        host: str | None = None,
        at: datetime | None = None,
    ) -> Manifest:
        """The one snapshot that `selector` names: `latest` (no later than `at`), or the beginning of an id.

        `SnapshotNotFound` where there is none, or where several match; the message names what there is.
        """
        places = sorted(self._places(host, volume), key=lambda place: place.snapshot)
        if not places:
            raise self._unknown(volume, host)
        if selector != "latest":
            return self._load(_only(places, selector).key)
        owners = sorted({(place.host, place.volume) for place in places})
        if len(owners) > 1:
            names = ", ".join(f"{owner} ({name})" for owner, name in owners)
            raise SnapshotNotFound(
                f"more than one host or volume matches: {names}", hint="name one with --host"
            )
        limit = "~" if at is None else f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}~"
        if not (earlier := [place for place in places if place.snapshot <= limit]):
            raise SnapshotNotFound(
                f"{volume} has no snapshot as old as that; the oldest is {places[0].snapshot}",
                hint="see `backupd snapshots`",
            )
        return self._load(earlier[-1].key)

    def _newest(self, host: str, volume: str) -> _Place | None:
        return max(self._places(host, volume), key=lambda place: place.snapshot, default=None)

    def _load(self, key: str) -> Manifest:
        data = self.storage.get(key, limit_bytes=MANIFEST_LIMIT_BYTES)
        if self._encryption is None:
            return decode(data, key=key)
        manifest = decode(self._encryption.verify("manifest", data, key=key), key=key)
        if manifest.key != key or not manifest.encrypted:
            raise ObjectDamaged(f"{key} is the manifest of another snapshot, {manifest.key}")
        return manifest

    def _places(self, host: str | None, volume: str | None) -> Iterator[_Place]:
        prefix = "snapshots/" if host is None else f"snapshots/{host}/"
        if host is not None and volume is not None:
            prefix = f"{prefix}{volume}/"
        # A mark is listed before its manifest: .accepted, then .json.
        mark, places = "", []
        for info in self.storage.list(prefix):
            if info.key.endswith(ACCEPTED):
                mark = info.key
            match = _MANIFEST_KEY.fullmatch(info.key)
            if match and (volume is None or match[2] == volume):
                accepted = mark == info.key.removesuffix(".json") + ACCEPTED
                places.append(_Place(info.key, match[1], match[2], match[3], accepted))
        # After the manifests: a writer that collectors did not wait for may have put one of these since.
        writing = sessions(self.storage, prefix.removeprefix("snapshots/"))
        for place in places:
            session = writing.get(f"{place.host}/{place.volume}/{place.snapshot}")
            if session is None or session.counts:
                yield place

    def _unknown(self, volume: str | None, host: str | None) -> SnapshotNotFound:
        places = list(self._places(None, None))
        if volume is None or not places:
            return SnapshotNotFound("the repository has no snapshots" + (f" of host {host}" if host else ""))
        if hosts := sorted({place.host for place in places if place.volume == volume}):
            return SnapshotNotFound(
                f"{volume} has no snapshots of host {host}",
                hint=f"name its host: --host {' or '.join(hosts)}",
            )
        near = difflib.get_close_matches(volume, {place.volume for place in places})
        return SnapshotNotFound(
            f"{volume} has no snapshots", hint=f"did you mean {' or '.join(near)}?" if near else None
        )


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


def _only(places: list[_Place], selector: str) -> _Place:
    matches = [place for place in places if place.snapshot.startswith(selector)]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        near = difflib.get_close_matches(selector, [place.snapshot for place in places])
        hint = f"did you mean {' or '.join(near)}?" if near else "see `backupd snapshots`"
        raise SnapshotNotFound(f"no snapshot's id begins with {selector}", hint=hint)
    names = ", ".join(f"{place.snapshot} ({place.host}/{place.volume})" for place in matches[:5])
    raise SnapshotNotFound(f"{selector} begins {len(matches)} ids: {names}", hint="give more of the id")
