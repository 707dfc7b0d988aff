"""Forgetting snapshots: what is planned is gone, all else is there, whatever dies in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupd.errors import ObjectDamaged, RepositoryError, SnapshotNotFound
from backupd.operations.collapse import collapsed_from
from backupd.operations.forget import ForgetPlan, accept_collapse, execute, plan, plan_one
from backupd.repository import Repository
from backupd.repository.history import accept
from backupd.retention import Retention
from backupd.snapshot import Manifest
from backupd.storage.base import Storage
from backupd.storage.local import LocalStorage
from backupd.storage.memory import MemoryStorage
from tests.faults import Crash, FaultyStorage
from tests.streams import load, noise, save, tar_of

NOW = datetime(2026, 11, 26, tzinfo=UTC)
EMPTY = tar_of({})


def name(day: int) -> str:
    """The id of a snapshot of November."""
    return f"202611{day:02}T020000Z-aaaa"


def taken(repository: Repository, day: int, stream: bytes | None = None, **facts: object) -> Manifest:
    """A snapshot of a day in November, of other content each day."""
    content = tar_of({"./same": noise(400_000), "./day": b"%d" % day}) if stream is None else stream
    started = datetime(2026, 11, day, 2, tzinfo=UTC)
    return save(repository, content, **{"snapshot": name(day), "started": started, **facts})  # type: ignore[arg-type]


def forget(repository: Repository, policy: str, *, volume: str = "data") -> list[str]:
    """Plan and execute."""
    made = plan(repository, host="host", volume=volume, policy=Retention.parse(policy), now=NOW, zone=UTC)
    return execute(repository, made)


def names(repository: Repository, volume: str | None = None) -> list[str]:
    """The ids that are left."""
    return [manifest.snapshot for manifest in repository.snapshots(None, volume)]


@pytest.fixture(params=["memory", "local"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """In turn a storage in memory and one on disk."""
    with closing(MemoryStorage() if request.param == "memory" else LocalStorage.create(tmp_path)) as made:
        yield made


@pytest.fixture
def repository(storage: Storage) -> Repository:
    """Five days of a volume, and a volume and a host beside it."""
    made = Repository.init(storage)
    for day in range(1, 6):
        taken(made, day)
    taken(made, 1, volume="data2")
    taken(made, 1, host="other")
    return made


def test_what_retention_does_not_keep_is_gone_with_all_that_belonged_to_it(repository: Repository) -> None:
    """Manifest, sidecars and marks; the chunks, other volumes and other hosts are left alone."""
    repository.storage.put(f"snapshots/host/data/{name(1)}.accepted", b"")
    repository.storage.flush()
    before = {info.key for info in repository.storage.list()}
    assert forget(repository, "last=2") == [name(1), name(2), name(3)]
    gone = before - {info.key for info in repository.storage.list()}
    kinds = (".chunks.zst", ".index.zst", ".json")
    assert gone == {
        f"snapshots/host/data/{name(1)}.accepted",
        *(f"snapshots/host/data/{name(day)}{kind}" for day in (1, 2, 3) for kind in kinds),
    }
    for manifest in repository.snapshots():
        load(repository, manifest)
    assert forget(repository, "last=2") == []


def test_a_forget_that_dies_leaves_each_snapshot_whole_or_gone(tmp_path: Path) -> None:
    """R3: a crash before each storage call in turn; what is listed restores, and the next forget ends it."""
    crashes = 0
    while True:
        inner = LocalStorage.create(tmp_path / str(crashes))
        repository = Repository.init(inner)
        streams = {name(day): tar_of({"./day": b"%d" % day}) for day in range(1, 5)}
        for day in range(1, 5):
            taken(repository, day, streams[name(day)])
        repository.storage = FaultyStorage(inner, crash_before=crashes)
        try:
            forget(repository, "last=1")
        except Crash:
            crashes += 1
        else:
            break
        repository.storage = inner
        left = repository.snapshots()
        # The oldest first, so that those that are left are the latest.
        assert [manifest.snapshot for manifest in left] == list(streams)[4 - len(left) :]
        assert all(load(repository, manifest) == streams[manifest.snapshot] for manifest in left)
        forget(repository, "last=1")
        assert names(repository) == [name(4)]
        inner.close()
    assert crashes > 4 + 3 * 2


def test_no_sidecar_goes_before_its_manifest_is_durably_gone(storage: Storage) -> None:
    """R3: a loss of power may undo what was not flushed: a manifest must not come back without sidecars."""
    faulty = FaultyStorage(storage)
    repository = Repository.init(faulty)
    for day in (1, 2, 3):
        taken(repository, day)
    begun = len(faulty.calls)
    forget(repository, "last=1")
    calls = [call for call in faulty.calls[begun:] if not call.startswith(("list", "get"))]
    first_sidecar = next(at for at, call in enumerate(calls) if call.endswith(".zst"))
    assert calls[:first_sidecar] == [
        f"delete snapshots/host/data/{name(1)}.json",
        f"delete snapshots/host/data/{name(2)}.json",
        "flush",
    ]
    assert calls[-1] == "flush"


def test_an_unreadable_manifest_keeps_all_from_being_forgotten(repository: Repository) -> None:
    """R9: what cannot be seen whole is not judged."""
    repository.storage.put(f"snapshots/host/data/{name(6)}.json", b"{")
    repository.storage.flush()
    with pytest.raises(ObjectDamaged, match=name(6)):
        forget(repository, "last=1")
    assert len(repository.snapshots("host", "data", damaged=lambda _: None)) == 5


def test_a_plan_says_what_becomes_of_each_and_why(repository: Repository) -> None:
    """The latest first, a line each."""
    policy = Retention.parse("last=1 monthly=1")
    made = plan(repository, host="host", volume="data", policy=policy, now=NOW, zone=UTC)
    first, *lines = str(made).splitlines()
    assert first == "data on host: keep last=1 monthly=1: 4 of 5 forgotten"
    assert lines[0] == f"  {name(5)}  keep    last 1 of 1, monthly 2026-11"
    assert lines[1] == f"  {name(4)}  forget  not kept by last=1 monthly=1"
    assert len(lines) == 5


def test_what_a_later_plan_keeps_is_not_forgotten(repository: Repository) -> None:
    """Between a plan and its confirmation a volume may collapse."""
    policy = Retention(last=1)

    def planned() -> ForgetPlan:
        return plan(repository, host="host", volume="data", policy=policy, now=NOW, zone=UTC)

    confirmed = planned()
    taken(repository, 6, EMPTY, collapsed_from=name(5))
    assert execute(repository, confirmed.agreed(planned())) == []
    assert len(names(repository, "data")) == 7


def test_one_snapshot_is_forgotten_by_its_id(repository: Repository) -> None:
    """Its unique beginning is enough; of this host alone."""
    assert execute(repository, plan_one(repository, "20261103", host="host", now=NOW, even_last=False)) == [
        name(3)
    ]
    assert name(3) not in names(repository)
    with pytest.raises(SnapshotNotFound):
        plan_one(repository, "20261105", host="other", now=NOW, even_last=False)


def test_the_last_good_one_is_forgotten_only_with_a_stronger_word(repository: Repository) -> None:
    """I3: later ones that are fuzzy or have collapsed are no reason to let it go."""
    taken(repository, 6, outcome="fuzzy")
    taken(repository, 7, EMPTY, collapsed_from=name(5))
    with pytest.raises(RepositoryError, match="last good snapshot of data") as caught:
        plan_one(repository, name(5), host="host", now=NOW, even_last=False)
    assert "--even-last" in str(caught.value.hint)
    for day in (6, 7):
        execute(repository, plan_one(repository, name(day), host="host", now=NOW, even_last=False))
    execute(repository, plan_one(repository, name(5), host="host", now=NOW, even_last=True))
    assert names(repository, "data") == [name(1), name(1), name(2), name(3), name(4)]


def test_a_collapse_freezes_until_it_is_accepted(repository: Repository) -> None:
    """I11: retention forgets nothing, and says how to go on; after that it forgets again."""
    taken(repository, 6, EMPTY, collapsed_from=name(5))
    taken(repository, 7, EMPTY, collapsed_from=name(5))
    made = plan(repository, host="host", volume="data", policy=Retention(last=1), now=NOW, zone=UTC)
    assert (made.forgotten, made.frozen) == ((), True)
    assert "backupd forget data --accept-collapse" in str(made)
    assert accept_collapse(repository, host="host", volume="data") == [name(6), name(7)]
    assert accept_collapse(repository, host="host", volume="data") == []
    assert forget(repository, "last=1") == [name(day) for day in range(1, 7)]
    assert [entry.good for entry in repository.history("host", "data")] == [True]


def test_a_volume_is_compared_with_its_newest_earlier_good_snapshot(repository: Repository) -> None:
    """I11: not with one that is fuzzy or has collapsed itself; after acceptance, with that one."""
    taken(repository, 6, outcome="fuzzy")
    taken(repository, 7, EMPTY, collapsed_from=name(5))
    repository.storage.put(f"snapshots/host/data/{name(8)}.json", b"{")
    repository.storage.flush()

    def earlier(before: int) -> str | None:
        found = repository.last_good("host", "data", before=name(before))
        return found and found.snapshot

    assert earlier(20) == name(5)
    assert earlier(3) == name(2)
    assert earlier(1) == name(5)  # the clock went back: all are later by name
    assert repository.last_good("host", "nothing", before=name(9)) is None
    newest = repository.history("host", "data", damaged=lambda _: None)[-1]
    accept(repository.storage, newest.manifest)
    assert earlier(20) == name(7)


@pytest.mark.parametrize(
    ("before", "after", "collapsed"),
    [
        (None, ({"directory": 1}, 0), False),
        (({"directory": 1}, 0), ({"directory": 1}, 0), False),
        (({"directory": 1, "file": 1}, 5), ({"directory": 1}, 0), True),
        (({"directory": 1, "file": 900}, 0), ({"directory": 1}, 0), True),
        (({"directory": 1, "file": 1}, 5), ({"directory": 1, "file": 1}, 0), False),
        (({"directory": 1, "file": 10}, 10_000_000), ({"directory": 1, "file": 10}, 90_000), True),
        (({"directory": 1, "file": 10}, 10_000_000), ({"directory": 1, "file": 10}, 110_000), False),
        (({"directory": 1, "file": 10}, 90_000), ({"directory": 1, "file": 10}, 10_000_000), False),
        (({"directory": 1, "file": 9_999}, 0), ({"directory": 1, "file": 50}, 0), True),
    ],
    ids=[
        "first",
        "always empty",
        "one small file gone",
        "empty files gone",
        "small file emptied",
        "99 percent less",
        "98 percent less",
        "grown",
        "few of many small ones",
    ],
)
def test_what_a_collapse_is(
    before: tuple[dict[str, int], int] | None, after: tuple[dict[str, int], int], collapsed: bool
) -> None:
    """I11: empty where there was something, or a hundredth and less; a first snapshot is none."""
    earlier = None
    if before is not None:
        made = save(Repository.init(MemoryStorage()), EMPTY, members=before[0])
        sizes = type(made.bytes)(tar=0, content=before[1], new=0, stored=0)
        earlier = save(Repository.init(MemoryStorage()), EMPTY, members=before[0], bytes=sizes)
    found = collapsed_from(after[0], after[1], earlier)
    assert (found is not None) == collapsed


def test_no_snapshot_is_forgotten_for_its_age_alone(repository: Repository) -> None:
    """S1: backups have stopped; ten years later everything is still there."""
    later = NOW + timedelta(days=3650)
    policy = Retention.parse("within=7d last=3")
    made = plan(repository, host="host", volume="data", policy=policy, now=later, zone=UTC)
    assert made.forgotten == ()
