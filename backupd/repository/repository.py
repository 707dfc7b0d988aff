"""The repository: snapshots of any number of hosts on one storage (docs/FORMAT.md)."""

from __future__ import annotations

import difflib
import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from pathlib import Path

from backupd.errors import (
    BackupdError,
    ObjectNotFound,
    RepositoryError,
    RepositoryMissing,
    RepositoryUnsupported,
    SnapshotNotFound,
    UsageError,
)
from backupd.repository.cache import Cache
from backupd.repository.chunker import CDC_AVERAGE, CDC_MAX, CDC_MIN
from backupd.repository.chunks import ChunkStore
from backupd.repository.codec import Codec
from backupd.repository.condemned import Condemned
from backupd.repository.known import Known
from backupd.repository.manifests import Manifests
from backupd.repository.reader import SnapshotReader
from backupd.repository.sessions import sessions
from backupd.repository.writer import SnapshotWriter
from backupd.snapshot import (
    FORMAT,
    MANIFEST_LIMIT_BYTES,
    Manifest,
    check_format,
    decode,
    parse_object,
    prefix,
)
from backupd.storage.base import Storage

MARKER = "backupd.json"
_MANIFEST_KEY = re.compile(r"snapshots/([^/]+)/([^/]+)/([^/]+)\.json")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Place:
    """Where one manifest lies."""

    key: str
    host: str
    volume: str
    snapshot: str


class Repository:
    """An opened repository."""

    def __init__(
        self, storage: Storage, identity: str, *, cache: Cache | None = None, remote: bool = False
    ) -> None:
        self.storage = storage
        self.cache = cache or Cache()
        self.chunks = ChunkStore(storage, Codec())
        self.id = identity
        self._remote = remote
        self._manifests = Manifests(storage, self.cache, decode)

    @classmethod
    def init(cls, storage: Storage) -> Repository:
        """Make a repository in a storage that holds none; `RepositoryError` where one is already."""
        if storage.exists(MARKER):
            raise RepositoryError(f"{storage.location} is a repository already", hint="use it as it is")
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

    @classmethod
    def open(
        cls,
        storage: Storage,
        *,
        remote: bool = False,
        caches: Path | None = None,
        note: Callable[[str], object] = lambda text: None,
    ) -> Repository:
        """The repository on a storage; `RepositoryMissing` or `RepositoryUnsupported` otherwise.

        In a `remote` one, what chunks are there is remembered rather than asked for each (see `Known`).
        `caches` is a directory for what this machine remembers; `note` hears of trouble there.
        """
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
        identity = str(marker.get("id"))
        path = caches / f"{identity}.sqlite" if caches and _NAME.fullmatch(identity) else None
        return cls(storage, identity, cache=Cache(path, note), remote=remote)

    def close(self) -> None:
        """Let go of the cache; the storage is the caller's."""
        self.cache.close()

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
            host=host,
            volume=volume,
            snapshot=snapshot,
            know=partial(self._know, host, volume, snapshot) if self._remote else None,
        )

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
        return self.load(newest) if newest else None

    def snapshots(
        self,
        host: str | None = None,
        volume: str | None = None,
        *,
        damaged: Callable[[BackupdError], None] | None = None,
    ) -> list[Manifest]:
        """The snapshots, oldest first. An unreadable manifest raises, or is handed to `damaged`."""
        places = sorted(self.places(host, volume), key=lambda place: place.snapshot)
        manifests = []
        keys = [place.key for place in places]
        if host is None and volume is None:
            self._manifests.forget_all_but(keys)
        for found in self._manifests.load_all(_prefix(host, volume), keys):
            if isinstance(found, Manifest):
                manifests.append(found)
            elif damaged is None:
                raise found
            else:
                damaged(found)
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
        places = sorted(self.places(host, volume), key=lambda place: place.snapshot)
        if not places:
            raise self.unknown(volume, host)
        if selector != "latest":
            return self.load(_only(places, selector))
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
        return self.load(earlier[-1])

    def _know(self, host: str, volume: str, snapshot: str, condemned: Condemned) -> Known:
        """What a session knows of the chunks: those of the cache, and of the snapshot before."""
        session = f"sessions/{host}/{volume}/{snapshot}"
        known = Known(self.storage, self.cache, condemned, session=session)
        if newest := self._newest(host, volume):
            known.learn_list(
                prefix(host, volume), newest.snapshot, lambda: self.reader(self.load(newest)).chunk_keys()
            )
        return known

    def _newest(self, host: str, volume: str) -> Place | None:
        return max(self.places(host, volume), key=lambda place: place.snapshot, default=None)

    def load(self, place: Place) -> Manifest:
        """The manifest at a place, from the storage itself."""
        return self._manifests.load(place.key)

    def places(self, host: str | None = None, volume: str | None = None) -> Iterator[Place]:
        """Where the manifests lie, whatever they hold, in the order of their keys."""
        prefix = _prefix(host, volume)
        matches = [
            match for info in self.storage.list(prefix) if (match := _MANIFEST_KEY.fullmatch(info.key))
        ]
        # After the manifests: a writer that collectors did not wait for may have put one of these since.
        writing = sessions(self.storage, prefix.removeprefix("snapshots/"))
        for match in matches:
            session = writing.get("/".join(match.groups()))
            if (volume is None or match[2] == volume) and (session is None or session.counts):
                yield Place(match[0], match[1], match[2], match[3])

    def unknown(self, volume: str | None, host: str | None) -> SnapshotNotFound:
        """The error that says that there are no such snapshots, and what there is."""
        places = list(self.places(None, None))
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


def _prefix(host: str | None, volume: str | None) -> str:
    """What the keys begin with of all that belongs to these snapshots, and maybe to others."""
    if host is None:
        return "snapshots/"
    return f"snapshots/{host}/" if volume is None else prefix(host, volume)


def _only(places: list[Place], selector: str) -> Place:
    matches = [place for place in places if place.snapshot.startswith(selector)]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        near = difflib.get_close_matches(selector, [place.snapshot for place in places])
        hint = f"did you mean {' or '.join(near)}?" if near else "see `backupd snapshots`"
        raise SnapshotNotFound(f"no snapshot's id begins with {selector}", hint=hint)
    names = ", ".join(f"{place.snapshot} ({place.host}/{place.volume})" for place in matches[:5])
    raise SnapshotNotFound(f"{selector} begins {len(matches)} ids: {names}", hint="give more of the id")
