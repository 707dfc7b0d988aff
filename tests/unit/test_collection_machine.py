"""The proof of docs/FORMAT.md, "Prune", held to account: whatever happens, no snapshot misses a chunk."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from backupd.errors import BackupdError
from backupd.repository import Repository, reader
from backupd.repository.chunks import StoredChunk
from backupd.repository.gc import marks, prune
from backupd.repository.gc.sessions import SILENT
from backupd.repository.sidecar import SidecarWriter
from backupd.repository.stream.codec import Codec
from backupd.repository.writer import SnapshotWriter
from backupd.snapshot import Chunks, Manifest, Quiesced, Sidecars, Sizes, Tar
from backupd.storage.base import Storage
from backupd.storage.memory import MemoryStorage
from backupd.volume import Volume
from tests.faults import Crash
from tests.unit.interleaving import Actor, OwnView

CONTENTS = [bytes([n]) * 50 for n in range(3)]
# where something is decided, for somebody to stop before it
POINTS = [
    "put sessions/",
    "list gc/",
    "list sessions/",
    "list snapshots/",
    "list chunks/",
    "exists chunks/",
    "exists sessions/",
    "exists snapshots/",
    "put snapshots/",
    "put gc/",
    "delete chunks/",
    "delete sessions/",
    "flush",
]
STOPS = st.just("the end") | st.sampled_from(POINTS)
GRACE = timedelta(hours=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


class Collection(RuleBasedStateMachine):
    """Two hosts write, two collect; each stops before every call, for any time, or for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.storage = MemoryStorage(clock=self._tick)
        self.actors: dict[str, Actor] = {}
        self.caches: dict[str, dict[str, str]] = {"one": {}, "two": {}}
        self.succeeded: set[str] = set()
        self.forgotten: set[str] = set()
        self.numbers = count()
        self.patches = [
            # one thread at a time, so that an order of calls can be had again
            patch.object(marks, "_AHEAD", 1),
            patch.object(prune, "_AT_ONCE", 1),
            patch.object(reader, "_AHEAD", 1),
            patch.object(prune, "new_id", lambda now: self._id("set")),
        ]
        for each in self.patches:
            each.start()
        self.repository = Repository.init(self.storage)
        for content in CONTENTS:
            store = self.repository.chunks.store(content)
            self.caches["one"][hashlib.sha256(content).hexdigest()] = store.key
        self.storage.flush()

    def _tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def _id(self, kind: str) -> str:
        """Unique, and in an order that has nothing to do with time: nobody's clock can be relied on."""
        digest = hashlib.sha256(f"{kind} {next(self.numbers)}".encode()).hexdigest()
        return f"2026{int(digest[:2], 16) % 12 + 1:02}01T000000Z-{digest[:4]}"

    @rule(
        host=st.sampled_from(["one", "two"]),
        contents=st.lists(st.sampled_from(CONTENTS), min_size=1, max_size=2),
        point=STOPS,
    )
    def begin_to_write(self, host: str, contents: list[bytes], point: str) -> None:
        """A backup; its host remembers what it has stored, and does not look for it again."""
        if host in self.actors:
            return
        snapshot = self._id("snapshot")
        cache = self.caches[host]

        def program(view: OwnView) -> None:
            write(view, host, snapshot, contents, cache)
            self.succeeded.add(f"{host}/v/{snapshot}")

        self._start(host, program, point)

    @rule(
        name=st.sampled_from(["collector one", "collector two"]),
        grace=st.sampled_from([timedelta(), GRACE]),
        point=STOPS,
    )
    def begin_to_collect(self, name: str, grace: timedelta, point: str) -> None:
        """A prune."""
        if name not in self.actors:
            self._start(name, lambda view: collect(view, grace), point)

    @precondition(lambda self: self.actors)
    @rule(data=st.data(), point=STOPS)
    def go_on(self, data: st.DataObject, point: str) -> None:
        """Somebody goes on, to such a call or to the end."""
        actor = self.actors[data.draw(st.sampled_from(sorted(self.actors)))]
        actor.run_to(point)
        self._bury(actor)

    @precondition(lambda self: self.actors)
    @rule(data=st.data(), calls=st.integers(1, 5))
    def make_some_calls(self, data: st.DataObject, calls: int) -> None:
        """Somebody goes on for so many calls, whatever they are."""
        actor = self.actors[data.draw(st.sampled_from(sorted(self.actors)))]
        actor.step(calls)
        self._bury(actor)

    @precondition(lambda self: self.actors)
    @rule(data=st.data())
    def be_published(self, data: st.DataObject) -> None:
        """What was put and not flushed becomes visible."""
        self.actors[data.draw(st.sampled_from(sorted(self.actors)))].view.publish()

    @precondition(lambda self: self.actors)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """Somebody ends before the next call."""
        actor = self.actors[data.draw(st.sampled_from(sorted(self.actors)))]
        actor.kill()
        self._bury(actor)

    @precondition(lambda self: self.repository.snapshots())
    @rule(data=st.data(), wholly=st.booleans())
    def forget(self, data: st.DataObject, wholly: bool) -> None:
        """The manifest first; what belongs to it stays if the program dies."""
        manifest = data.draw(st.sampled_from(self.repository.snapshots()))
        self.forgotten.add(f"{manifest.host}/v/{manifest.snapshot}")
        self.storage.delete(manifest.key)
        if wholly:
            self.storage.delete(manifest.chunks_key)
            self.storage.delete(manifest.index_key)

    @rule(by=st.sampled_from([timedelta(hours=-3), timedelta(minutes=1), GRACE, SILENT, 2 * SILENT]))
    def the_storages_clock_jumps(self, by: timedelta) -> None:
        """Sessions fall silent, grace periods end, or have not begun."""
        self.now += by

    @rule(silent=st.booleans())
    def a_prune_passes(self, silent: bool) -> None:
        """One that nobody interrupts, when everybody has been silent for a day, or not."""
        self.now += SILENT if silent else timedelta()
        collect(self.storage, timedelta())

    @precondition(lambda self: not self.actors)
    @rule()
    def a_season_passes(self) -> None:
        """Sets and sessions are old enough to be removed; what was remembered is too old to be used."""
        self.now += prune.KEPT + SILENT
        for cache in self.caches.values():
            cache.clear()

    @invariant()
    def every_snapshot_is_whole(self) -> None:
        """R3, R11, R13: each chunk that a manifest names is there."""
        found = self.repository.snapshots()
        for manifest in found:
            for key in self.repository.reader(manifest).chunk_keys():
                assert self.storage.exists(key), f"{manifest.key} names {key}"
        names = {f"{manifest.host}/v/{manifest.snapshot}" for manifest in found}
        assert self.succeeded - self.forgotten <= names, "a snapshot has vanished"

    def teardown(self) -> None:
        """In the end all that nobody needs is collected, whatever was left behind."""
        try:
            for actor in self.actors.values():
                actor.kill()
            for _ in range(5):
                self.now = max(self.now, START) + prune.KEPT + SILENT
                collect(self.storage, GRACE)
            self.every_snapshot_is_whole()
            named = {
                key
                for found in self.repository.snapshots()
                for key in self.repository.reader(found).chunk_keys()
            }
            assert {info.key for info in self.storage.list("chunks/")} == named
            assert [info.key for info in self.storage.list("gc/")] == []
            assert [info.key for info in self.storage.list("sessions/")] == []
            belonging = [info.key for info in self.storage.list("snapshots/")]
            assert len(belonging) == 3 * len(self.repository.snapshots())
        finally:
            for each in self.patches:
                each.stop()

    def _start(self, name: str, program: object, point: str) -> None:
        actor = Actor(name, self.storage, program)  # type: ignore[arg-type]
        self.actors[name] = actor
        actor.run_to(point)
        self._bury(actor)

    def _bury(self, actor: Actor) -> None:
        if actor.ended:
            del self.actors[actor.name]
            if actor.error and not isinstance(actor.error, (BackupdError, Crash)):
                raise actor.error


def write(view: OwnView, host: str, snapshot: str, contents: list[bytes], cache: dict[str, str]) -> None:
    """A backup as `SnapshotWriter` makes it, of chunks that need no pipeline."""
    stored = {}
    chunks = Repository(view, "x").chunks
    with SnapshotWriter(view, chunks, None, host=host, volume="v", snapshot=snapshot) as writer:
        for content in contents:
            stored[hashlib.sha256(content).hexdigest()] = _store(writer, content, cache)
        sidecars = _sidecars(view, f"snapshots/{host}/v/{snapshot}", list(stored.values()))
        view.flush()
        cache.update(stored)
        writer.commit(replace(MANIFEST, host=host, snapshot=snapshot, sidecars=sidecars))


def write_chunks(storage: Storage, host: str, snapshot: str, keys: list[str]) -> None:
    """A snapshot of chunks that are stored already."""
    chunks = Repository(storage, "x").chunks
    with SnapshotWriter(storage, chunks, None, host=host, volume="v", snapshot=snapshot) as writer:
        sidecars = _sidecars(storage, f"snapshots/{host}/v/{snapshot}", keys)
        storage.flush()
        writer.commit(replace(MANIFEST, host=host, snapshot=snapshot, sidecars=sidecars))


def _sidecars(storage: Storage, stem: str, keys: list[str]) -> Sidecars:
    with SidecarWriter() as lines, SidecarWriter() as members:
        for key in keys:
            lines.add(key.encode())
        return Sidecars(
            chunks=lines.put(storage, f"{stem}.chunks.zst"), index=members.put(storage, f"{stem}.index.zst")
        )


def _store(writer: SnapshotWriter, content: bytes, cache: dict[str, str]) -> str:
    store = writer._chunks
    key = store._condemned.key_for(hashlib.sha256(content).hexdigest(), Codec.suffix)
    if cache.get(hashlib.sha256(content).hexdigest()) == key:
        return key
    chunk: StoredChunk = store.store(content)
    return chunk.key


def collect(storage: OwnView | MemoryStorage, grace: timedelta) -> None:
    """A prune: what the plan says is done, however late; without a grace period twice."""
    cancel = threading.Event()
    for condemn in (True, False) if not grace else (True,):
        prune.execute(
            storage, prune.plan(storage, grace=grace, condemn=condemn, cancel=cancel), cancel=cancel
        )


MANIFEST = Manifest(
    snapshot="",
    host="",
    volume=Volume("v", "local", {}, {}),
    started=START,
    finished=START,
    consistency="clean-stop",
    quiesced=Quiesced("none"),
    tar=Tar("gnu", "1.34"),
    members={},
    bytes=Sizes(0, 0, 0, 0),
    chunks=Chunks(0, 0, 0, 0),
    sidecars=Sidecars("", ""),
    outcome="ok",
    tool="test",
)

TestCollection = Collection.TestCase
TestCollection.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
