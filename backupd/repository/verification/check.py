"""Proof that snapshots are whole: what their manifests name is there, and is what it was.

What a listing or a size makes suspect is looked at itself, and twice, before it counts as damage: a listing
may be short, and a read may fail once.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from math import ceil, inf
from typing import TypeVar

from backupd.errors import (
    BackupdError,
    IntegrityError,
    Interrupted,
    ObjectDamaged,
    ObjectNotFound,
    RepositoryUnsupported,
    StorageError,
)
from backupd.progress import Progress, Tally
from backupd.repository.catalogue import Place
from backupd.repository.marker import MARKER
from backupd.repository.repository import Repository
from backupd.repository.sidecar import check_stored
from backupd.repository.slices import PACK_LIMIT_BYTES, Slice
from backupd.repository.verification.finding import Finding, hits
from backupd.repository.verification.inventory import Blame, Inventory
from backupd.snapshot import MANIFEST_LIMIT_BYTES, Manifest

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREADS = max(8, (os.cpu_count() or 1) + 1)
_AHEAD = 4 * _THREADS
_PAGE = 1000

_DAMAGE = (IntegrityError, StorageError, RepositoryUnsupported)
"""What an object can be blamed for; that a key is missing here, say, is no fault of its own."""


@dataclass
class Counts:
    """What a check has come through; `unlisted` packs are there although the storage does not list them."""

    snapshots: int = 0
    packs: int = 0
    chunks: int = 0
    unlisted: int = 0
    read_packs: int = 0
    read_bytes: int = 0
    findings: int = 0


class Check:
    """A check of some of a repository's snapshots. `found` hears of each finding, from one thread."""

    def __init__(
        self,
        repository: Repository,
        inventory: Inventory,
        *,
        found: Callable[[Finding], None],
        progress: Progress,
        cancel: threading.Event,
    ) -> None:
        self._repository = repository
        self._storage = repository.storage
        self._inventory = inventory
        self._found = found
        self._progress = progress
        self._cancel = cancel
        self._manifests: list[Manifest] = []
        self._seen: set[tuple[object, ...]] = set()
        self.counts = Counts()

    def run(self, places: Iterable[Place], known_damaged: Iterable[str], share: float) -> Counts:
        """Check the snapshots at `places`: their objects, and the content of a share (0 to 1) of the packs.

        Those go first that were read longest ago, as far as the repository's cache remembers. What is wrong
        with packs is in the inventory afterwards.
        """
        self._read_manifests(places)
        # After the manifests: what they name was there before them.
        self._inventory.list(self._storage.list("packs/"))
        for findings in self._each(self._check_sidecars, self._manifests):
            self.tell(findings)
        self.counts.packs = self._inventory.count_packs()
        self.counts.chunks = self._inventory.count_chunks()
        self._look_at_suspects(known_damaged)
        if share:
            self._read_packs(share)
        if damaged := self._inventory.unmended():
            for findings in self._each(partial(self._hits, damaged), self._manifests):
                self.tell(findings)
        return self.counts

    def _read_manifests(self, places: Iterable[Place]) -> None:
        for read in self._each(self._read_manifest, places):
            if isinstance(read, Manifest):
                self._manifests.append(read)
                self.counts.snapshots += 1
            elif read is not None:
                self.tell([read])

    def _read_manifest(self, place: Place) -> Manifest | Finding | None:
        try:
            manifest = self._repository.load(place)
            if manifest.key != place.key:
                raise ObjectDamaged(f"{place.key} is the manifest of another snapshot, {manifest.snapshot}")
        except ObjectNotFound:
            return None  # forgotten meanwhile
        except _DAMAGE as error:
            return Finding(place.host, place.volume, place.snapshot, place.key, self._problem(error))
        return manifest

    def _check_sidecars(self, manifest: Manifest) -> list[Finding]:
        findings = []
        for key, check in ((manifest.chunks_key, self._check_list), (manifest.index_key, self._check_index)):
            try:
                check(manifest)
            except _DAMAGE as error:
                findings.append(Finding.of(manifest, key, self._problem(error)))
        return self._unless_forgotten(manifest, findings)

    def _check_list(self, manifest: Manifest) -> None:
        """Note what the chunk list names; lists of the same hash are parsed once."""
        mark = (manifest.sidecars.chunks, manifest.chunks.count)
        if mark in self._seen:
            check_stored(self._storage, manifest.chunks_key, sha256=manifest.sidecars.chunks)
            return
        count = self._inventory.name(self._repository.reader(manifest).slices())
        if count != manifest.chunks.count:
            raise ObjectDamaged(
                f"{manifest.chunks_key} has {count} chunks where its manifest says {manifest.chunks.count}"
            )
        self._seen.add(mark)

    def _check_index(self, manifest: Manifest) -> None:
        """Hold the sums of the index against the manifest; indexes of the same hash are parsed once.

        One that cannot be decrypted here is held against its hash alone.
        """
        expected = (dict(manifest.members), manifest.bytes.content)
        mark = (manifest.sidecars.index, manifest.chunks.count, *map(str, expected))
        if mark in self._seen or not self._repository.readable:
            check_stored(self._storage, manifest.index_key, sha256=manifest.sidecars.index)
            return
        members: Counter[str] = Counter()
        size = 0
        for entry in self._repository.reader(manifest).members():
            members[entry.type] += 1
            size += entry.size
            if not 0 <= entry.first <= entry.last < manifest.chunks.count:
                raise ObjectDamaged(f"{manifest.index_key} names a chunk that its snapshot does not have")
        if (dict(members), size) != expected:
            raise ObjectDamaged(f"{manifest.index_key} has other members than its manifest says")
        self._seen.add(mark)

    def _look_at_suspects(self, known_damaged: Iterable[str]) -> None:
        # Without an identity nobody can say whether they are still damaged, or healed.
        known = (pack for pack in known_damaged if self._repository.readable and self._inventory.names(pack))
        for _, blames in self._each(self._examine, dict.fromkeys(chain(self._inventory.short(), known))):
            self._inventory.blame(blames)
        for present, blames in self._each(self._look_for, self._inventory.unlisted()):
            self.counts.unlisted += present
            self._inventory.blame(blames)

    def _read_packs(self, share: float) -> None:
        total = ceil(share * self._inventory.size_bytes())
        self._inventory.read(self._repository.cache.reads())
        packs = self._inventory.oldest_read(inf if share >= 1 else total)
        while page := dict(islice(packs, _PAGE)):
            done = []
            try:
                for pack, blames in self._each(self._examine, page):
                    self._inventory.blame(blames)
                    done.append(pack)
                    self.counts.read_packs += 1
                    self.counts.read_bytes += page[pack]
                    self._progress(Tally(self.counts.read_bytes, self.counts.read_packs, total))
            finally:
                self._repository.cache.note_read(done, datetime.now(UTC))

    def _look_for(self, pack: str) -> tuple[bool, list[Blame]]:
        """Whether a pack is there that is not listed; what is wrong, where it is not."""
        try:
            if self._storage.exists(pack):
                return True, []
        except StorageError as error:
            self._problem(error)
        return False, self._examine(pack)[1]

    def _examine(self, pack: str) -> tuple[str, list[Blame]]:
        """Read what is named in a pack, and again where that fails; then other packs that have it."""
        problems = self._attempt(pack, self._inventory.slices(pack))
        if problems:
            problems = self._attempt(pack, list(problems))
        return pack, [blame for found, text in problems.items() for blame in self._search(found, text)]

    def _search(self, found: Slice, problem: str) -> list[Blame]:
        """The blame for a slice that cannot be read, and for the others that have its content and cannot."""
        if not self._repository.readable:
            return [Blame(found, problem)]
        chunks = self._repository.chunks
        # A slice list may know of packs that collectors have deleted.
        others = [other for other in chunks.others(found) if self._inventory.lists(other.pack)]
        rotten = self._failures(others, chunks.load_only)
        mended = len(rotten) < len(others)
        return [
            Blame(found, problem, mended),
            *(Blame(other, text, mended) for other, text in rotten.items()),
        ]

    def _attempt(self, pack: str, slices: Sequence[Slice]) -> dict[Slice, str]:
        """Those of a pack's slices that cannot be read, and why."""
        chunks = self._repository.chunks
        try:
            content = memoryview(self._storage.get(pack, limit_bytes=PACK_LIMIT_BYTES))
        except ObjectNotFound:
            return dict.fromkeys(slices, f"pack {pack} is missing")
        except _DAMAGE as error:  # of one bad sector not all of a pack is hit
            self._problem(error)
            return self._failures(slices, chunks.load_only)
        return self._failures(slices, partial(self._decode, content))

    def _decode(self, content: memoryview, found: Slice) -> object:
        """Find the chunk in the content of its pack; so far as one can tell where that cannot be read."""
        frame = content[found.offset : found.offset + found.length]
        if len(frame) < found.length:
            raise ObjectDamaged(f"{found.pack} ends before byte {found.end}")
        return self._repository.readable and self._repository.chunks.decode(frame, found)

    def _failures(self, slices: Iterable[Slice], read: Callable[[Slice], object]) -> dict[Slice, str]:
        failures = {}
        for found in slices:
            try:
                read(found)
            except _DAMAGE as error:
                failures[found] = self._problem(error)
        return failures

    def _hits(self, damaged: Collection[str], manifest: Manifest) -> list[Finding]:
        try:
            findings = hits(self._repository.reader(manifest), self._inventory, damaged)
        except BackupdError:
            return []  # the chunk list cannot be read, which was told before
        return self._unless_forgotten(manifest, findings)

    def _unless_forgotten(self, manifest: Manifest, findings: list[Finding]) -> list[Finding]:
        return findings if findings and self._storage.exists(manifest.key) else []

    def _problem(self, error: BackupdError) -> str:
        """What the error says of one object; the storage's own error where that fails altogether."""
        if isinstance(error, StorageError) and not isinstance(error, ObjectNotFound):
            self._storage.get(MARKER, limit_bytes=MANIFEST_LIMIT_BYTES)
        return error.message

    def tell(self, findings: Iterable[Finding]) -> None:
        """Count findings, and hand them out."""
        for finding in findings:
            self.counts.findings += 1
            self._found(finding)

    def _each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The results in order, a bounded number of them worked out ahead in parallel."""
        left = iter(items)
        pending: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="check") as pool:
            try:
                pending.extend(pool.submit(work, item) for item in islice(left, _AHEAD))
                while pending:
                    if self._cancel.is_set():
                        raise Interrupted("the check was told to stop", hint="what was read is remembered")
                    yield pending.popleft().result()
                    pending.extend(pool.submit(work, item) for item in islice(left, 1))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
