"""The proof of docs/FORMAT.md, "Prune", held to account: whatever happens, no snapshot misses a chunk."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from backupd.errors import BackupdError
from backupd.repository import Repository, lists, packer
from backupd.repository.cache import Cache
from backupd.repository.gc import marks, prune
from backupd.repository.gc.sessions import SILENT
from backupd.repository.gc.sets import packs_in, put_set, sets
from backupd.repository.gc.sweeping import KEPT
from backupd.repository.packer import Packer
from backupd.repository.sidecar import SidecarWriter
from backupd.repository.slices import Slice, is_pack, owner_of
from backupd.repository.writer import SnapshotWriter
from backupd.snapshot import Chunks, Manifest, Quiesced, Sidecars, Sizes, Tar
from backupd.storage.base import Storage
from backupd.storage.memory import MemoryStorage
from backupd.volume import Volume
from tests.faults import Crash
from tests.unit.interleaving import Actor, OwnView

CONTENTS = [bytes([n]) * 50 for n in range(4)]
PACK_BYTES = 50  # the frames of three contents
# where something is decided, for somebody to stop before it
WRITING = [
    "put sessions/",
    "list gc/",
    "list slices/",
    "list packs/",
    "put packs/",
    "put slices/",
    "put snapshots/",
]
COMMITTING = ["put snapshots/", "flush", "exists sessions/", "list gc/", "exists packs/", "delete snapshots/"]
COLLECTING = ["list gc/", "list sessions/", "list snapshots/", "list packs/", "list slices/", "delete packs/"]
CONDEMNING = ["put gc/", "flush", "list sessions/", "delete gc/", "delete sessions/", "delete slices/"]
END = "the end"
GRACE = timedelta(hours=1)
HOSTS = st.sampled_from(["one", "two"])
COLLECTORS = st.sampled_from(["collector one", "collector two"])
GRACES = st.sampled_from([timedelta(), GRACE])
PRUNES = st.sampled_from([[], [GRACE], [timedelta()], [timedelta(), timedelta()]])
CHOSEN = st.lists(st.sampled_from(CONTENTS), min_size=1, max_size=4)
START = datetime(2026, 1, 1, tzinfo=UTC)


class Collection(RuleBasedStateMachine):
    """Two hosts write, two collect; each stops before every call, for any time, or for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.storage = MemoryStorage(clock=self._tick)
        self.actors: dict[str, Actor] = {}
        self.caches = {"one": Cache(), "two": Cache()}
        self.succeeded: set[str] = set()
        self.forgotten: set[str] = set()
        self.numbers = count()
        self.patches: list[Any] = [
            # one thread at a time, and no chance, so that an order of calls can be had again
            patch.object(marks, "_AHEAD", 1),
            patch.object(prune, "_AT_ONCE", 1),
            patch.object(lists, "_AT_ONCE", 1),
            patch.object(prune, "new_id", lambda now: self._id("set")),
            patch.object(packer, "new_pack", lambda owner: f"packs/{owner}/{self._digits()}.pack"),
            patch.object(packer, "new_list", lambda owner: f"slices/{owner}/{self._digits()}.zst"),
            patch.object(packer, "PACK_BYTES", PACK_BYTES),
        ]
        for each in self.patches:
            each.start()
        self.repository = Repository.init(self.storage)
        # What there is at first is garbage, that a writer may use.
        write(self.storage, "one", self._id("snapshot"), CONTENTS, self.caches["one"])
        self._forget(self.repository.snapshots()[0], wholly=True)

    def _tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def _id(self, kind: str) -> str:
        """Unique, and in an order that has nothing to do with time: nobody's clock can be relied on."""
        digest = hashlib.sha256(f"{kind} {next(self.numbers)}".encode()).hexdigest()
        return f"2026{int(digest[:2], 16) % 12 + 1:02}01T000000Z-{digest[:4]}"

    def _digits(self) -> str:
        return hashlib.sha256(f"name {next(self.numbers)}".encode()).hexdigest()[:16]

    @rule(host=HOSTS, contents=CHOSEN, point=st.sampled_from([*WRITING, *COMMITTING, END]))
    def begin_to_write(self, host: str, contents: list[bytes], point: str) -> None:
        """A backup; its host remembers what slice lists said, however long ago."""
        if host in self.actors:
            return
        snapshot = self._id("snapshot")
        cache = self.caches[host]

        def program(view: OwnView) -> None:
            write(view, host, snapshot, contents, cache)
            self.succeeded.add(f"{host}/v/{snapshot}")

        self._start(host, program, point)

    @rule(name=COLLECTORS, grace=GRACES, point=st.sampled_from([*COLLECTING, *CONDEMNING, END]))
    def begin_to_collect(self, name: str, grace: timedelta, point: str) -> None:
        """A prune."""
        if name not in self.actors:
            self._start(name, lambda view: collect(view, grace), point)

    @rule(
        host=HOSTS,
        contents=CHOSEN,
        first=st.sampled_from(WRITING),
        second=st.sampled_from(["put snapshots/", "put snapshots/", "exists sessions/", "list gc/"]),
        before=PRUNES,
        between=PRUNES,
        late=st.sampled_from(["delete packs/", "list sessions/", END]),
        silent=st.booleans(),
    )
    def prunes_pass_while_one_writes(
        self,
        host: str,
        contents: list[bytes],
        first: str,
        second: str,
        before: list[timedelta],
        between: list[timedelta],
        late: str,
        silent: bool,
    ) -> None:
        """A backup that stops twice, with prunes meanwhile, the last of which may stop, too.

        All was garbage at first.
        """
        if host not in self.actors:
            self._forget_all()
            self._pass(before, silent=False)
            self.begin_to_write(host, contents, first)
            self._pass(between, silent=silent)
            self._run(host, second)
            self.now += SILENT if silent else GRACE
            self.begin_to_collect("collector one", timedelta(), late)
            self._run(host, END)
            self._run("collector one", END)

    @rule(
        name=COLLECTORS,
        grace=GRACES,
        host=HOSTS,
        contents=CHOSEN,
        first=st.sampled_from(["put gc/", *COLLECTING]),
        stop=st.sampled_from(["put snapshots/", "list gc/", END]),
        second=st.sampled_from([*COLLECTING, END, END, END]),
    )
    def one_writes_while_a_prune_goes_on(
        self,
        name: str,
        grace: timedelta,
        host: str,
        contents: list[bytes],
        first: str,
        stop: str,
        second: str,
    ) -> None:
        """A prune that stops twice, with a backup that begins, and ends, between."""
        if name not in self.actors:
            self._forget_all()
            self.begin_to_collect(name, grace, first)
            self.begin_to_write(host, contents, stop)
            self._run(name, second)
            self._run(host, END)
            self._run(name, END)

    def _forget_all(self) -> None:
        for manifest in self.repository.snapshots():
            self._forget(manifest, wholly=True)

    def _run(self, name: str, point: str) -> None:
        if actor := self.actors.get(name):
            actor.run_to(point)
            self._bury(actor)

    def _pass(self, graces: list[timedelta], *, silent: bool) -> None:
        for grace in graces:
            self.now += SILENT if silent else GRACE
            collect(self.storage, grace)

    @precondition(lambda self: self.actors)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """Somebody goes on, to such a call or to the end."""
        name = data.draw(st.sampled_from(sorted(self.actors)))
        points = COMMITTING if name in self.caches else [*COLLECTING, *CONDEMNING]
        self._run(name, data.draw(st.sampled_from([END, *points])))

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
        self._forget(data.draw(st.sampled_from(self.repository.snapshots())), wholly)

    @precondition(lambda self: self._packs())
    @rule(data=st.data())
    def be_suspected(self, data: st.DataObject) -> None:
        """A check takes a pack for damaged."""
        pack = data.draw(st.sampled_from(self._packs()))
        put_set(self.storage, self._id("set"), "damaged", [pack])

    def _forget(self, manifest: Manifest, wholly: bool) -> None:
        self.forgotten.add(f"{manifest.host}/v/{manifest.snapshot}")
        self.storage.delete(manifest.key)
        if wholly:
            self.storage.delete(manifest.chunks_key)
            self.storage.delete(manifest.index_key)

    @rule(by=st.sampled_from([timedelta(hours=-3), timedelta(minutes=1), GRACE, SILENT, 2 * SILENT]))
    def the_storages_clock_jumps(self, by: timedelta) -> None:
        """Sessions fall silent, grace periods end, or have not begun."""
        self.now += by

    @precondition(lambda self: not self.actors)
    @rule()
    def a_season_passes(self) -> None:
        """Sessions are old enough to be removed, and what was remembered is as old."""
        self.now += KEPT + SILENT

    @invariant()
    def every_snapshot_is_whole(self) -> None:
        """R3, R11, R13: each chunk that a manifest names is there."""
        found = self.repository.snapshots()
        sizes = {info.key: info.size_bytes for info in self.storage.list("packs/")}
        for manifest in found:
            for each in self.repository.reader(manifest).slices():
                assert each.end <= sizes.get(each.pack, 0), f"{manifest.key} names {each}"
        names = {f"{manifest.host}/v/{manifest.snapshot}" for manifest in found}
        assert self.succeeded - self.forgotten <= names, "a snapshot has vanished"

    def teardown(self) -> None:
        """In the end all that nobody needs is collected, whatever was left behind."""
        try:
            for actor in self.actors.values():
                actor.kill()
            for _ in range(5):
                self.now = max(self.now, START) + KEPT + SILENT
                collect(self.storage, GRACE)
            self.every_snapshot_is_whole()
            self._only_what_is_needed_is_left()
            assert [info.key for info in self.storage.list("sessions/")] == []
            belonging = [info.key for info in self.storage.list("snapshots/")]
            assert len(belonging) == 3 * len(self.repository.snapshots())
        finally:
            for each in self.patches:
                each.stop()

    def _only_what_is_needed_is_left(self) -> None:
        named = {
            each.pack
            for found in self.repository.snapshots()
            for each in self.repository.reader(found).slices()
        }
        left = set(self._packs())
        naming = [each for each in sets(self.storage) if each.kind not in ("waiting", "finished")]
        if not any(each.kind == "damaged" for each in naming):
            assert left == named
        assert named <= left
        assert all(packs_in(self.storage, each) & left for each in naming)
        assert {owner_of(info.key) for info in self.storage.list("slices/")} <= {
            owner_of(pack) for pack in left
        }

    def _packs(self) -> list[str]:
        return [info.key for info in self.storage.list("packs/") if is_pack(info.key)]

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


def write(
    view: OwnView | MemoryStorage, host: str, snapshot: str, contents: list[bytes], cache: Cache
) -> None:
    """A backup as `SnapshotWriter` makes it, of chunks that need no pipeline."""
    chunks = Repository(view, "x", cache=cache).chunks
    with SnapshotWriter(view, chunks, cache, None, host=host, volume="v", snapshot=snapshot) as writer:
        slices = store(view, writer, contents)
        sidecars = sidecars_of(view, f"snapshots/{host}/v/{snapshot}", slices)
        view.flush()
        writer.commit(replace(MANIFEST, host=host, snapshot=snapshot, sidecars=sidecars))


def store(storage: Storage, writer: SnapshotWriter, contents: Iterable[bytes]) -> list[Slice]:
    """The slices of these chunks, most of them new."""
    known = writer._known
    assert known is not None
    with Packer(storage, known, writer._session.name) as packer:
        found = [packer.add(writer._chunks.prepare(each, find=known.find))[0] for each in contents]
        packer.finish()
    return found


def sidecars_of(storage: Storage, stem: str, slices: list[Slice]) -> Sidecars:
    """The chunk list, and an index of nothing."""
    with SidecarWriter() as lines, SidecarWriter() as members:
        for each in slices:
            lines.add(each.line())
        return Sidecars(
            chunks=lines.put(storage, f"{stem}.chunks.zst"), index=members.put(storage, f"{stem}.index.zst")
        )


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
TestCollection.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
