"""Which snapshots a repository has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from backupd.errors import BackupdError, IntegrityError, ObjectNotFound, RepositoryError, SnapshotNotFound
from backupd.repository.gc.sessions import sessions
from backupd.repository.history import ACCEPTED, Entry
from backupd.repository.manifests import Manifests
from backupd.snapshot import Manifest, prefix
from backupd.storage.base import Storage

_MANIFEST_KEY = re.compile(r"snapshots/([^/]+)/([^/]+)/([^/]+)\.json")


@dataclass(frozen=True)
class Place:
    """Where one manifest lies, and whether its snapshot's collapse has been accepted."""

    key: str
    host: str
    volume: str
    snapshot: str
    accepted: bool


class Catalogue:
    """The snapshots of a storage, as its listing and its manifests tell."""

    def __init__(self, storage: Storage, manifests: Manifests) -> None:
        self.storage = storage
        self._manifests = manifests

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
        return [entry.manifest for entry in self.history(host, volume, damaged=damaged)]

    def history(
        self,
        host: str | None = None,
        volume: str | None = None,
        *,
        damaged: Callable[[BackupdError], None] | None = None,
    ) -> list[Entry]:
        """Like `snapshots`, with what was said of them later."""
        places = sorted(self.places(host, volume), key=lambda place: place.snapshot)
        entries, keys = [], [place.key for place in places]
        if host is None and volume is None:
            self._manifests.forget_all_but(keys)
        for place, found in zip(places, self._manifests.load_all(_prefix(host, volume), keys), strict=True):
            if isinstance(found, Manifest):
                entries.append(Entry(found, place.accepted))
            elif damaged is None:
                raise found
            else:
                damaged(found)
        return entries

    def last_good(self, host: str, volume: str, *, before: str) -> Manifest | None:
        """The newest good snapshot of a host's volume that is older than the id `before`, else the newest.

        None where none is good. What cannot be read is passed over.
        """
        places = list(self.places(host, volume))
        for place in sorted(
            places, key=lambda place: (place.snapshot < before, place.snapshot), reverse=True
        ):
            with suppress(IntegrityError, RepositoryError, ObjectNotFound):
                entry = Entry(self.load(place), place.accepted)
                if entry.good:
                    return entry.manifest
        return None

    def volumes(self, host: str) -> list[str]:
        """The names of a host's volumes that have snapshots."""
        return sorted({place.volume for place in self.places(host, None)})

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

    def load(self, place: Place) -> Manifest:
        """The manifest at a place, from the storage itself."""
        return self._manifests.load(place.key)

    def places(self, host: str | None = None, volume: str | None = None) -> Iterator[Place]:
        """Where the manifests lie, whatever they hold, in the order of their keys."""
        prefix = _prefix(host, volume)
        # A mark is listed before its manifest: .accepted, then .json.
        mark, found = "", []
        for info in self.storage.list(prefix):
            if info.key.endswith(ACCEPTED):
                mark = info.key
            match = _MANIFEST_KEY.fullmatch(info.key)
            if match and (volume is None or match[2] == volume):
                accepted = mark == info.key.removesuffix(".json") + ACCEPTED
                found.append(Place(info.key, match[1], match[2], match[3], accepted))
        # After the manifests: a writer that collectors did not wait for may have put one of these since.
        writing = sessions(self.storage, prefix.removeprefix("snapshots/"))
        for place in found:
            session = writing.get(f"{place.host}/{place.volume}/{place.snapshot}")
            if session is None or session.counts:
                yield place

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

    def _newest(self, host: str, volume: str) -> Place | None:
        return max(self.places(host, volume), key=lambda place: place.snapshot, default=None)


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
