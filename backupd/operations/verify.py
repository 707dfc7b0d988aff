"""Prove that the repository is whole, and have damage mended by the backups to come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import structlog

from backupd.errors import BackupdError, ObjectDamaged, RepositoryUnsupported, StorageError
from backupd.progress import Progress
from backupd.repository import Repository
from backupd.repository.catalogue import Place
from backupd.repository.verification.check import Check, Counts
from backupd.repository.verification.damage import Damage
from backupd.repository.verification.finding import Finding
from backupd.repository.verification.inventory import Inventory
from backupd.storage.base import Storage

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Verified:
    """What a verification came through; how many damaged packs it marked, or why it could not."""

    counts: Counts
    marked: int
    unmarked: BackupdError | None
    sound: frozenset[tuple[str, str]] = frozenset()

    def whole(self, host: str) -> list[str]:
        """The volumes of a host of which snapshots were looked at, and none has a finding."""
        return sorted(volume for owner, volume in self.sound if owner == host)


def verify(
    repository: Repository,
    *,
    host: str | None = None,
    volumes: Sequence[str] = (),
    share: float = 0.0,
    found: Callable[[Finding], None],
    progress: Progress,
    cancel: threading.Event,
) -> Verified:
    """Check the snapshots of a host and of these volumes (all, where none are named).

    `share` (0 to 1) of what their packs take is read and hashed, what was read longest ago first. Damaged
    packs are marked, so that the next backup that meets their content stores it again; nothing is deleted.
    An encrypted repository can be checked without an identity, but for its data: `KeyMissing`.
    """
    if share:
        repository.check_readable()
    begun = time.monotonic()
    places = _places(repository, host, volumes)
    damage, trouble = _damage(repository.storage)
    with Inventory() as inventory:
        unsound: set[tuple[str | None, str | None]] = set()

        def note(finding: Finding) -> None:
            unsound.add((finding.host, finding.volume))
            found(finding)

        check = Check(repository, inventory, found=note, progress=progress, cancel=cancel)
        if trouble is not None:
            check.tell([Finding(None, None, None, None, trouble.message)])
        counts = check.run(places, damage, share)
        marked = 0
        if trouble is None:
            try:
                marked = damage.mark(repository.storage, inventory.damaged())
            except StorageError as error:  # who may only read can still look
                trouble = error
    sound = frozenset((place.host, place.volume) for place in places) - unsound
    verified = Verified(counts, marked, trouble, sound)
    _tell(verified, time.monotonic() - begun)
    return verified


def _damage(storage: Storage) -> tuple[Damage, BackupdError | None]:
    """What is known to be damaged, or why nothing is."""
    try:
        return Damage.load(storage), None
    except (ObjectDamaged, RepositoryUnsupported) as error:
        return Damage(), error


def _tell(verified: Verified, seconds: float) -> None:
    counts = verified.counts
    facts = {**asdict(counts), "marked": verified.marked, "seconds": round(seconds, 3)}
    if verified.unmarked:
        facts["unmarked"] = verified.unmarked.message
    if counts.findings:
        log.error("verify finished", outcome="damaged", **facts)
    else:
        log.info("verify finished", outcome="ok", **facts)


def _places(repository: Repository, host: str | None, volumes: Sequence[str]) -> list[Place]:
    """Where the manifests lie, oldest snapshot first; `SnapshotNotFound` for a volume that has none."""
    places = [place for place in repository.places(host) if not volumes or place.volume in volumes]
    for volume in volumes:
        if all(place.volume != volume for place in places):
            raise repository.unknown(volume, host)
    if host is not None and not places:
        raise repository.unknown(None, host)
    return sorted(places, key=lambda place: place.snapshot)
