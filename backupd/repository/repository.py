"""The repository: snapshots of any number of hosts on one storage (docs/FORMAT.md)."""

from __future__ import annotations

import difflib
import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources

from backupd.errors import (
    BackupdError,
    ObjectNotFound,
    RepositoryError,
    RepositoryMissing,
    RepositoryUnsupported,
    SnapshotNotFound,
    UsageError,
)
from backupd.repository.chunker import CDC_AVERAGE, CDC_MAX, CDC_MIN
from backupd.repository.chunks import ChunkStore
from backupd.repository.codec import Codec
from backupd.repository.reader import SnapshotReader
from backupd.repository.writer import SnapshotWriter
from backupd.snapshot import FORMAT, MANIFEST_LIMIT_BYTES, Manifest, check_format, decode, parse_object
from backupd.storage.base import Storage

MARKER = "backupd.json"
_MANIFEST_KEY = re.compile(r"snapshots/([^/]+)/([^/]+)/([^/]+)\.json")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class _Place:
    """Where one manifest lies."""

    key: str
    host: str
    volume: str
    snapshot: str


class Repository:
    """An opened repository."""

    def __init__(self, storage: Storage, identity: str) -> None:
        self.storage = storage
        self.chunks = ChunkStore(storage, Codec())
        self.id = identity

    @classmethod
    def init(cls, storage: Storage) -> Repository:
        """Make a repository in a storage that holds none; `RepositoryError` where one is already."""
        cls.refuse_existing(storage)
        marker = {
            "format": FORMAT,
            "id": str(uuid.uuid4()),
            "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "required_features": [],
            "encryption": None,
            "chunker": {"algorithm": "fastcdc", "min": CDC_MIN, "average": CDC_AVERAGE, "max": CDC_MAX},
        }
        storage.put("README.txt", resources.files(__package__).joinpath("README.txt").read_bytes())
        storage.put(MARKER, json.dumps(marker, indent=1).encode() + b"\n")
        storage.flush()
        return cls.open(storage)

    @staticmethod
    def refuse_existing(storage: Storage) -> None:
        """`RepositoryError` where there is a repository."""
        if storage.exists(MARKER):
            raise RepositoryError(f"{storage.location} is a repository already", hint="use it as it is")

    @classmethod
    def open(cls, storage: Storage) -> Repository:
        """The repository on a storage; `RepositoryMissing` or `RepositoryUnsupported` otherwise."""
        try:
            data = storage.get(MARKER, limit_bytes=MANIFEST_LIMIT_BYTES)
        except ObjectNotFound:
            raise RepositoryMissing(
                f"{storage.location} is not a repository",
                hint="is the right disk mounted there? to make a new repository: backupd init",
            ) from None
        marker = parse_object(data, key=MARKER)
        check_format(marker, key=MARKER)
        if marker.get("encryption") is not None:
            raise RepositoryUnsupported(
                f"{storage.location} is encrypted, which this version cannot read",
                hint="use the backupd version that wrote it",
            )
        return cls(storage, str(marker.get("id")))

    def begin(self, *, host: str, volume: str, snapshot: str) -> SnapshotWriter:
        """A writer for a new snapshot of a host's volume."""
        for name in (host, volume):
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"{name!r} cannot be part of a snapshot's name",
                    hint="use letters, digits, _ . and -, a letter or digit first; see the setting `host`",
                )
        return SnapshotWriter(self.storage, self.chunks, host=host, volume=volume, snapshot=snapshot)

    def reader(self, manifest: Manifest) -> SnapshotReader:
        """A reader of a snapshot."""
        return SnapshotReader(self.storage, self.chunks, manifest)

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
        manifests = []
        for place in sorted(self._places(host, volume), key=lambda place: place.snapshot):
            try:
                manifests.append(self._load(place.key))
            except BackupdError as error:
                if damaged is None:
                    raise
                damaged(error)
        return manifests

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
        return decode(self.storage.get(key, limit_bytes=MANIFEST_LIMIT_BYTES), key=key)

    def _places(self, host: str | None, volume: str | None) -> Iterator[_Place]:
        prefix = "snapshots/" if host is None else f"snapshots/{host}/"
        if host is not None and volume is not None:
            prefix = f"{prefix}{volume}/"
        for info in self.storage.list(prefix):
            match = _MANIFEST_KEY.fullmatch(info.key)
            if match and (volume is None or match[2] == volume):
                yield _Place(info.key, match[1], match[2], match[3])

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
