"""Prune: garbage goes in the end, what a snapshot names stays; where anything is doubtful nothing goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupd.errors import BackupdError, Interrupted, Locked, ObjectDamaged, RepositoryError, StorageError
from backupd.operations.lock import prune_lock
from backupd.operations.prune import Pruned, due, last_prune, prune
from backupd.progress import Tally, silent
from backupd.repository import Repository
from backupd.repository.gc import sessions
from backupd.repository.gc.absent import Absent
from backupd.repository.gc.prune import Plan, execute, plan
from backupd.repository.gc.sessions import SILENT
from backupd.repository.gc.sets import put_set
from backupd.repository.gc.sweeping import KEPT
from backupd.repository.slices import owner_of
from backupd.snapshot import Manifest
from backupd.storage.base import ObjectInfo
from backupd.storage.local import LocalStorage
from backupd.storage.memory import MemoryStorage
from tests.faults import Crash, FaultyStorage
from tests.streams import BytesSource, load, noise, save, tar_of

GRACE = timedelta(hours=24)
HOUR = timedelta(hours=1)
TREE = {"./a": noise(700_000, seed=1), "./b": b"1"}
OTHER = {"./a": noise(700_000, seed=2), "./b": b"1"}
APART = {"./y": noise(400_000, seed=3), "./z": b"2"}
SET = "20260101T000000Z-0001"


class Clock:
    """A storage's clock, which goes on with every object and jumps when told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repository(clock: Clock) -> Repository:
    """A new repository in memory, on that clock."""
    return Repository.init(MemoryStorage(clock))


def forget(repository: Repository, manifest: Manifest) -> None:
    """As it is done: the manifest first."""
    for key in (manifest.key, manifest.chunks_key, manifest.index_key):
        repository.storage.delete(key)


def collect(repository: Repository, grace: timedelta = GRACE) -> Plan:
    """One run; what it did."""
    cancel = threading.Event()
    made = plan(repository.storage, grace=grace, cancel=cancel)
    execute(repository.storage, made, cancel=cancel)
    return made


def packs(repository: Repository) -> set[str]:
    """The keys of all packs there are."""
    return {info.key for info in repository.storage.list("packs/")}


def everything(repository: Repository) -> dict[str, bytes]:
    """Every object."""
    keys = [info.key for info in repository.storage.list("")]
    return {key: repository.storage.get(key, limit_bytes=10**8) for key in keys}


def named(repository: Repository) -> set[str]:
    """The packs that snapshots name."""
    return {pack for manifest in repository.snapshots() for pack in packs_of(repository, manifest)}


def packs_of(repository: Repository, manifest: Manifest) -> set[str]:
    """The packs that a snapshot names."""
    return {each.pack for each in repository.reader(manifest).slices()}


def test_garbage_is_condemned_first_and_deleted_after_the_grace_period(
    repository: Repository, clock: Clock
) -> None:
    """And what a kept snapshot has stays."""
    gone, kept = save(repository, tar_of(TREE)), save(repository, tar_of(APART))
    forget(repository, gone)
    before = packs(repository)
    first = collect(repository)
    assert packs(repository) == before
    assert set(first.garbage.packs) == before - named(repository) != set()
    second = collect(repository)
    assert (len(second.doomed.packs), len(second.pending)) == (0, 1)
    clock.now += GRACE
    third = collect(repository)
    assert third.doomed.size_bytes == first.garbage.size_bytes > 0
    assert packs(repository) == named(repository)
    assert load(repository, kept) == tar_of(APART)


def test_content_moves_out_of_a_pack_of_which_little_is_named(repository: Repository, clock: Clock) -> None:
    """The next backup that meets it stores it again; the pack goes with the snapshots that name it."""
    small = tar_of({"./a": noise(300_000, seed=1)})
    both = save(repository, tar_of({"./a": noise(300_000, seed=1), "./b": noise(700_000, seed=2)}))
    old = save(repository, small)
    (sparse,) = packs_of(repository, old) & packs_of(repository, both)
    assert collect(repository).sparse.packs == []
    forget(repository, both)
    made = collect(repository)
    assert made.sparse.packs == [sparse]
    assert made.sparse.size_bytes - made.sparse.used_bytes == made.sparse.unused_bytes > 700_000
    assert sparse in Absent.load(repository.storage)
    assert collect(repository).news is None, "writers know it"
    new = save(repository, small)
    assert sparse not in packs_of(repository, new)
    forget(repository, old)
    for _ in range(2):
        collect(repository)
        clock.now += GRACE
    collect(repository)
    assert packs(repository) == packs_of(repository, new)
    assert list(repository.storage.list("gc/")) == []
    assert load(repository, new) == small


def test_sparse_packs_are_told_in_one_set(repository: Repository) -> None:
    """A new one replaces the last: writers read them all, at each backup."""
    for number in range(3):
        little = {"./a": noise(300_000, seed=number)}
        whole = save(
            repository, tar_of({**little, "./b": noise(700_000, seed=9 + number)}), volume=f"v{number}"
        )
        save(repository, tar_of(little), volume=f"v{number}")
        forget(repository, whole)
        made = collect(repository)
        assert len(made.sparse.packs) == number + 1
        (told,) = repository.storage.list("gc/")
        assert told.key.endswith(".sparse.zst")
        assert set(Absent.load(repository.storage)) == set(made.sparse.packs)


def test_a_set_stays_as_long_as_one_of_its_packs_is_there(repository: Repository, clock: Clock) -> None:
    """However long it takes: else a writer might use what a collector that slept has yet to delete."""
    stream = tar_of(TREE)
    kept = save(repository, stream)
    put_set(repository.storage, SET, "condemned", sorted(packs_of(repository, kept)))
    for _ in range(3):
        clock.now += KEPT + GRACE
        collect(repository)
    assert repository.storage.exists(f"gc/{SET}.condemned.zst")
    assert load(repository, kept) == stream
    forget(repository, kept)
    collect(repository)
    assert packs(repository) == set()
    collect(repository)
    assert list(repository.storage.list("gc/")) == []


def test_a_slice_list_that_outlives_its_pack_deceives_nobody(repository: Repository, clock: Clock) -> None:
    """R13: neither who remembers it, nor who reads it when the set is gone that condemned the pack."""
    large, small = {"./a": noise(5_000_000, seed=1)}, {"./b": noise(700_000, seed=2)}
    both = save(repository, tar_of({**large, **small}))
    kept = save(repository, tar_of(small))
    gone = packs_of(repository, both) - packs_of(repository, kept)
    forget(repository, both)
    for _ in range(3):
        collect(repository)
        clock.now += GRACE
    assert gone
    assert not gone & packs(repository)
    assert not [info for info in repository.storage.list("gc/") if ".condemned." in info.key]
    told = "".join(info.key for info in repository.storage.list("slices/"))
    assert all(owner_of(pack) in told for pack in gone)
    for number, each in enumerate((repository, Repository.open(repository.storage))):
        again = save(each, tar_of(large), volume=f"v{number}")
        assert not gone & packs_of(repository, again)
        assert load(repository, again) == tar_of(large)


def test_a_note_that_another_collector_removes_meanwhile_is_no_error(
    repository: Repository, clock: Clock
) -> None:
    """R11: two at once; the set that it belongs to has nothing left to delete."""
    forget(repository, save(repository, tar_of(TREE)))
    collect(repository)
    clock.now += GRACE
    collect(repository)

    def remove(call: str) -> None:
        if call.startswith("open gc/") and call.endswith(".waiting.zst"):
            collect(repository)

    cancel = threading.Event()
    faulty = FaultyStorage(repository.storage, fail_when=remove)
    execute(faulty, plan(faulty, grace=GRACE, cancel=cancel), cancel=cancel)
    assert any(call.endswith(".waiting.zst") for call in faulty.calls)
    collect(repository)
    assert list(repository.storage.list("gc/")) == []


def test_slice_lists_go_with_the_last_pack_of_their_folder(repository: Repository, clock: Clock) -> None:
    """But not those of a writer that has just put its first."""
    forget(repository, save(repository, tar_of(TREE)))
    collect(repository)
    clock.now += GRACE
    collect(repository)
    assert packs(repository) == set()
    with repository.begin(host="h", volume="v", snapshot="s"):
        repository.storage.put("slices/h/v/s/0123456789abcdef.zst", b"")
        repository.storage.flush()
        collect(repository)
        assert [info.key for info in repository.storage.list("slices/")] == [
            "slices/h/v/s/0123456789abcdef.zst"
        ]


def test_a_plan_tells_bytes_and_changes_nothing(repository: Repository) -> None:
    """--dry-run, also where there is much to do: not one object is put or deleted."""
    forget(repository, save(repository, tar_of(TREE)))
    repository.storage.put("sessions/h/v/dead", b"")
    put_set(repository.storage, SET, "condemned", [])
    before = everything(repository)
    made = plan(repository.storage, grace=GRACE, dry_run=True, cancel=threading.Event())
    assert everything(repository) == before
    assert made.garbage.size_bytes > 700_000


def test_a_chunk_that_is_named_again_is_not_deleted(repository: Repository, clock: Clock) -> None:
    """The second mark: a writer that began before the set used what it names."""
    stream = tar_of(TREE)
    forget(repository, save(repository, stream))
    with repository.begin(host="h", volume="v", snapshot="20260101T000000Z-aaaa") as writer:
        condemned = collect(repository)
        assert len(condemned.garbage.packs) > 0
        clock.now += HOUR
        content = writer.store(
            BytesSource(stream), at_end=lambda: None, progress=silent, cancel=threading.Event()
        )
        assert content.chunks.new == 0
        late = save(repository, tar_of({"./z": b"1"}), snapshot="x", volume="template")
        writer.commit(_like(late, content, host="h", volume="v", snapshot="20260101T000000Z-aaaa"))
    clock.now += GRACE
    collect(repository)
    assert load(repository, repository.find("v")) == stream


def _like(other: Manifest, content: object, *, host: str, volume: str, snapshot: str) -> Manifest:
    from dataclasses import replace

    return replace(
        other,
        host=host,
        snapshot=snapshot,
        volume=replace(other.volume, name=volume),
        sidecars=content.sidecars,  # type: ignore[attr-defined]
    )


def test_a_live_session_holds_a_collection_until_it_ends(repository: Repository, clock: Clock) -> None:
    """The grace period alone is not enough; other sessions, begun later, hold nothing."""
    forget(repository, save(repository, tar_of(TREE)))
    with repository.begin(host="h", volume="v", snapshot="s"):
        collect(repository)
        clock.now += SILENT - HOUR
        assert collect(repository, HOUR).pending[0].sessions == ("h/v/s",)
    with repository.begin(host="h", volume="v", snapshot="later"):
        assert len(collect(repository, HOUR).doomed.packs) > 0
    assert packs(repository) == set()


def test_a_session_that_is_renewed_is_not_silent(
    repository: Repository, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup of days stays alive while its chunks pass."""
    monkeypatch.setattr(sessions, "RENEW_SECONDS", 0.0)
    with repository.begin(host="h", volume="v", snapshot="s") as writer:
        clock.now += SILENT
        writer.store(
            BytesSource(tar_of(TREE)), at_end=lambda: None, progress=silent, cancel=threading.Event()
        )
        clock.now += SILENT - HOUR
        collect(repository)
        assert not repository.storage.exists("sessions/h/v/s.fenced")


def test_a_writer_given_up_whose_chunks_are_there_keeps_its_snapshot(
    repository: Repository, clock: Clock
) -> None:
    """A machine that slept through a prune, in vain."""
    stream = tar_of(TREE)
    _save_asleep(repository, stream, lambda: (_sleep(clock), collect(repository)))
    assert load(repository, repository.find("v")) == stream


def test_a_writer_given_up_whose_chunks_are_condemned_withdraws_its_snapshot(
    repository: Repository, clock: Clock
) -> None:
    """Not only where they are gone: a collector may be about to delete them. The error says what to do."""
    stream = tar_of(TREE)
    forget(repository, save(repository, stream))
    with pytest.raises(RepositoryError, match="withdrawn") as caught:
        _save_asleep(repository, stream, lambda: (_sleep(clock), collect(repository)))
    assert "run the backup again" in str(caught.value.hint)
    assert repository.snapshots() == []
    assert not repository.storage.exists("snapshots/h/v/s.json")
    assert repository.storage.exists("sessions/h/v/s.done")


def test_a_snapshot_whose_writer_died_before_it_could_withdraw_it_does_not_count(
    repository: Repository, clock: Clock
) -> None:
    """R3: the manifest is there, its chunks are not; nobody is offered it, and in a season it is gone."""
    stream = tar_of(TREE)
    forget(repository, save(repository, stream))
    storage = FaultyStorage(
        repository.storage, fail_when=lambda call: _die() if call.startswith("delete snapshots/h") else None
    )
    with pytest.raises(Crash):
        _save_asleep(Repository.open(storage), stream, lambda: (_sleep(clock), collect(repository, HOUR)))
    assert repository.storage.exists("snapshots/h/v/s.json")
    assert repository.snapshots() == []
    assert repository.latest_id("h", "v") is None
    clock.now += KEPT + SILENT
    for _ in range(3):
        collect(repository)
        clock.now += GRACE
    assert not [
        info.key for folder in ("snapshots/", "sessions/") for info in repository.storage.list(folder)
    ]


def test_a_writer_that_died_after_its_commit_keeps_its_snapshot(repository: Repository, clock: Clock) -> None:
    """Its session is ended for it, not fenced."""
    storage = FaultyStorage(
        repository.storage, fail_when=lambda call: _die() if call.endswith(".done") else None
    )
    with pytest.raises(Crash):
        save(Repository.open(storage), tar_of(TREE))
    _sleep(clock)
    collect(repository)
    assert load(repository, repository.find("data")) == tar_of(TREE)


def _die() -> StorageError | None:
    raise Crash


def _sleep(clock: Clock) -> None:
    clock.now += SILENT


def _save_asleep(repository: Repository, stream: bytes, asleep: Callable[[], object]) -> None:
    """A save during which its machine sleeps, just before the manifest."""
    with repository.begin(host="h", volume="v", snapshot="s") as writer:
        content = writer.store(
            BytesSource(stream), at_end=lambda: None, progress=silent, cancel=threading.Event()
        )
        asleep()
        aside = Repository.init(MemoryStorage())
        writer.commit(_like(save(aside, stream), content, host="h", volume="v", snapshot="s"))


@pytest.mark.parametrize(
    "spoil", ["manifest", "list", "hidden list", "set", "newer manifest", "other manifest"]
)
def test_what_cannot_be_read_stops_everything(repository: Repository, clock: Clock, spoil: str) -> None:
    """R9: one unreadable manifest, chunk list or set, and nothing is deleted or condemned."""
    gone, kept = save(repository, tar_of(TREE)), save(repository, tar_of(OTHER))
    forget(repository, gone)
    collect(repository)
    clock.now += GRACE
    faulty = FaultyStorage(repository.storage)
    if spoil == "hidden list":
        faulty.hide(kept.chunks_key)
    elif spoil == "newer manifest":
        repository.storage.put("snapshots/h/v/s.json", b'{"format": 2}')
    elif spoil == "other manifest":
        repository.storage.put("snapshots/h/v/s.json", kept.encode())
    else:
        key = {"manifest": kept.key, "list": kept.chunks_key}.get(spoil)
        faulty.flip_bit(key or next(iter(repository.storage.list("gc/"))).key, 77)
    repository.storage.flush()
    before = everything(repository)
    with pytest.raises(BackupdError):
        plan(faulty, grace=GRACE, cancel=threading.Event())
    after = everything(repository)
    assert before.items() <= after.items()
    assert not any(key.endswith(".fenced") for key in after)


class ShortListings(FaultyStorage):
    """Lists only the first objects of a folder, as a server does whose pages get lost."""

    def __init__(self, inner: MemoryStorage, folder: str, objects: int) -> None:
        super().__init__(inner)
        self._folder, self._objects = folder, objects

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        found = list(super().list(prefix))
        return iter(found[: self._objects] if prefix == self._folder else found)


@pytest.mark.parametrize("folder", ["snapshots/", "sessions/", "packs/"])
@pytest.mark.parametrize("objects", [0, 1, 2])
def test_a_listing_that_is_cut_short_stops_everything(
    repository: Repository, clock: Clock, folder: str, objects: int
) -> None:
    """R9: what the run itself has just put, after all else, is not in it."""
    for name, tree in (("one", TREE), ("two", APART)):
        save(repository, tar_of(tree), volume=name)
    before = everything(repository)
    short = ShortListings(repository.storage, folder, objects)  # type: ignore[arg-type]
    with pytest.raises(RepositoryError, match=f"does not list {folder}") as caught:
        plan(short, grace=timedelta(), cancel=threading.Event())
    assert "nothing was deleted" in str(caught.value.hint)
    assert everything(repository) == before


def test_a_listing_that_misses_a_manifest_in_the_middle_does_not_lose_its_chunks(
    repository: Repository, clock: Clock
) -> None:
    """R9: its sidecars are listed, so it is asked for by its name."""
    kept = save(repository, tar_of(TREE))

    class Forgetful(FaultyStorage):
        def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
            return (info for info in super().list(prefix) if info.key != kept.key)

    clock.now += HOUR
    made = plan(Forgetful(repository.storage), grace=timedelta(), cancel=threading.Event())
    assert len(made.garbage.packs) == 0
    assert made.strays == ()


@pytest.mark.parametrize("wait", [timedelta(0), GRACE])
def test_a_crash_between_any_two_calls_of_a_prune_loses_nothing(wait: timedelta) -> None:
    """R3: the snapshot that is kept restores, and the next runs finish the work."""
    calls = None
    for crash_before in range(10_000):
        clock = Clock()
        repository = Repository.init(MemoryStorage(clock))
        forget(repository, save(repository, tar_of(TREE)))
        kept = save(repository, tar_of({"./b": b"1"}))
        collect(repository) if wait else None
        clock.now += wait
        faulty = FaultyStorage(repository.storage, crash_before=crash_before)
        try:
            collect(Repository(faulty, "x"), wait)
            calls = crash_before
        except Crash:
            pass
        assert load(repository, kept) == tar_of({"./b": b"1"})
        if calls is not None:
            break
        for _ in range(2):
            clock.now += 2 * GRACE
            collect(repository)
        clock.now += 2 * GRACE
        collect(repository)
        assert packs(repository) == named(repository)
    assert calls is not None
    assert calls > 10


def test_a_pack_that_holds_what_a_damaged_one_lost_is_kept(repository: Repository, clock: Clock) -> None:
    """The snapshot that names the damaged pack needs it; when it goes, so do the pack and the set."""
    stream = tar_of(TREE)
    hurt = save(repository, stream)
    lost = sorted(packs_of(repository, hurt))
    for pack in lost:
        repository.storage.delete(pack)
    put_set(repository.storage, SET, "damaged", lost)
    forget(repository, save(repository, stream))
    for _ in range(2):
        clock.now += 2 * GRACE
        collect(repository)
    assert load(repository, hurt) == stream
    forget(repository, hurt)
    for _ in range(2):
        collect(repository)
        clock.now += 2 * GRACE
    assert packs(repository) == set()
    assert SET not in str([info.key for info in repository.storage.list("gc/")])


def test_packs_of_which_nobody_knows_what_they_hold_are_kept_while_one_is_damaged(
    repository: Repository, clock: Clock
) -> None:
    """R4: a slice list that is damaged itself may have known of the only copy."""
    stream = tar_of(TREE)
    hurt = save(repository, stream)
    put_set(repository.storage, SET, "damaged", sorted(packs_of(repository, hurt)))
    healing = save(repository, stream)
    copies = packs_of(repository, healing)
    forget(repository, healing)
    faulty = FaultyStorage(repository.storage)
    for info in repository.storage.list("slices/"):
        faulty.flip_bit(info.key, 99)
    for _ in range(3):
        clock.now += 2 * GRACE
        collect(Repository(faulty, "x"))
    assert copies <= packs(repository)


def test_a_damaged_set_stays_while_one_of_its_packs_is_there(repository: Repository, clock: Clock) -> None:
    """Else a writer would take the damaged pack for a whole one."""
    hurt = save(repository, tar_of(TREE))
    put_set(repository.storage, SET, "damaged", sorted(packs_of(repository, hurt)))
    forget(repository, hurt)
    collect(repository)
    assert repository.storage.exists(f"gc/{SET}.damaged.zst")
    clock.now += GRACE
    collect(repository)
    assert packs(repository) == set()
    assert repository.storage.exists(f"gc/{SET}.damaged.zst")
    collect(repository)
    assert not repository.storage.exists(f"gc/{SET}.damaged.zst")


def test_what_a_crashed_forget_or_writer_left_is_swept_up(repository: Repository, clock: Clock) -> None:
    """Sidecars and marks without a manifest, but not those of a writer that lives."""
    manifest = save(repository, tar_of(TREE))
    repository.storage.put(f"{manifest.key.removesuffix('json')}accepted", b"")
    repository.storage.delete(manifest.key)
    with repository.begin(host="h", volume="v", snapshot="s") as writer:
        writer.store(
            BytesSource(tar_of(TREE)), at_end=lambda: None, progress=silent, cancel=threading.Event()
        )
        collect(repository)
        assert repository.storage.exists(manifest.chunks_key), "the grace period holds for these, too"
        clock.now += SILENT - HOUR
        collect(repository, HOUR)
        left = [info.key for info in repository.storage.list("snapshots/")]
        assert left == ["snapshots/h/v/s.chunks.zst", "snapshots/h/v/s.index.zst"]


def test_sets_and_sessions_are_removed_in_the_end(repository: Repository, clock: Clock) -> None:
    """A repository that is used for years does not fill up with what collectors leave."""
    forget(repository, save(repository, tar_of(TREE)))
    for _ in range(2):
        collect(repository)
        clock.now += GRACE
    assert {info.key.split(".")[1] for info in repository.storage.list("gc/")} == {
        "condemned", "waiting", "finished"
    }  # fmt: skip
    assert not list(repository.storage.list("sessions/"))
    collect(repository)
    assert not list(repository.storage.list("gc/"))
    assert not list(repository.storage.list("slices/"))


def test_a_stale_idea_of_what_is_stored_cannot_be_used(repository: Repository, clock: Clock) -> None:
    """R13: what a collection elsewhere deletes is stored again, in another pack."""
    stream = tar_of(TREE)
    forget(repository, save(repository, stream))
    collect(repository)
    stale = packs(repository)
    again = save(repository, stream)
    assert again.chunks.new == again.chunks.count
    clock.now += GRACE
    collect(repository)
    assert not stale & packs(repository)
    assert load(repository, again) == stream


def test_without_a_grace_period_one_run_does_all(tmp_path: Path) -> None:
    """And the time of it is kept, for the daemon to know whether it missed one."""
    with LocalStorage.create(tmp_path / "storage") as storage:
        repository = Repository.init(storage)
        forget(repository, save(repository, tar_of(TREE)))
        assert last_prune(tmp_path) is None
        result = _prune(repository, tmp_path, timedelta())
        assert result.deleted_packs == result.condemned_packs > 0
        assert result.pending == ()
        assert packs(repository) == set()
        assert last_prune(tmp_path) is not None


def test_what_is_due_is_known_at_a_glance(repository: Repository, tmp_path: Path) -> None:
    """The daemon asks each hour; only a collection that may delete is worth a run."""
    forget(repository, save(repository, tar_of(TREE)))
    long_ago = timedelta(days=-36500)  # the clock of the tests is not that of the machine
    assert not due(repository, long_ago)
    _prune(repository, tmp_path, GRACE)
    assert due(repository, GRACE)
    assert not due(repository, timedelta(days=36500))
    _prune(repository, tmp_path, timedelta())
    assert not due(repository, timedelta())


def test_two_prunes_on_one_state_directory_do_not_run_at_once(repository: Repository, tmp_path: Path) -> None:
    """The second says who is at it."""
    with prune_lock(tmp_path), pytest.raises(Locked, match="prune is in use by pid"):
        _prune(repository, tmp_path, GRACE)


def test_a_prune_that_is_told_to_stop_stops(repository: Repository, tmp_path: Path) -> None:
    """SIGTERM: what it has not deleted, the next run deletes."""
    forget(repository, save(repository, tar_of(TREE)))
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Interrupted):
        prune(repository, state_dir=tmp_path, grace=timedelta(), cancel=cancel)
    _prune(repository, tmp_path, timedelta())
    assert packs(repository) == set()


def test_progress_ends_with_all_that_was_to_be_deleted(repository: Repository, clock: Clock) -> None:
    """Bytes and packs."""
    forget(repository, save(repository, tar_of(TREE)))
    collect(repository)
    clock.now += GRACE
    told: list[Tally] = []
    made = plan(repository.storage, grace=GRACE, cancel=threading.Event())
    execute(repository.storage, made, progress=told.append, cancel=threading.Event())
    assert (told[-1].bytes_done, told[-1].members) == (made.doomed.size_bytes, len(made.doomed.packs))


def test_an_unlisted_chunk_list_is_damage_that_is_named(repository: Repository) -> None:
    """The error says which object and what to do."""
    kept = save(repository, tar_of(TREE))
    repository.storage.delete(kept.chunks_key)
    with pytest.raises(ObjectDamaged, match=kept.chunks_key) as caught:
        collect(repository)
    assert "forget" in str(caught.value.hint)


def _prune(repository: Repository, state_dir: Path, grace: timedelta) -> Pruned:
    return prune(repository, state_dir=state_dir, grace=grace, cancel=threading.Event())
