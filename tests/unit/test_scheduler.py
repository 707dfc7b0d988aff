"""The scheduler, with its real clock and threads and schedules of one second."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from backupd import cron
from backupd.jobs import Job
from backupd.protection import Policy
from backupd.retention import Retention
from backupd.scheduler import Scheduler, missed

PATIENCE_SECONDS = 60
SECONDLY = "* * * * * *"
DAILY = "0 2 * * *"


def job(name: str, schedule: str = DAILY, members: tuple[str, ...] = ()) -> Job:
    """A volume alone, or a group of these members."""
    policy = Policy(schedule=schedule, quiesce="pause", exclude=(), retention=Retention(last=1))
    return Job(name, name, name, schedule, dict.fromkeys(members or (name,), policy), frozenset())


def jobs(*given: Job) -> dict[str, Job]:
    """What `sync` takes."""
    return {each.name: each for each in given}


class Recorder:
    """Notes each call; says that the job has a turn unless it is `busy`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.busy = False
        self._news = threading.Condition()

    def __call__(self, name: str) -> bool:
        with self._news:
            self.calls.append(name)
            self._news.notify_all()
            return not self.busy

    def wait_for(self, count: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.calls) >= count, PATIENCE_SECONDS), self.calls


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def scheduler(recorder: Recorder) -> Iterator[Scheduler]:
    made = Scheduler(recorder, timezone=UTC)
    made.start()
    yield made
    made.stop()


def never(volume: str) -> datetime | None:
    return None


def long_ago(volume: str) -> datetime | None:
    return datetime.now(UTC) - timedelta(days=3)


def just_now(volume: str) -> datetime | None:
    return datetime.now(UTC)


def test_volume_runs_at_every_schedule_point(scheduler: Scheduler, recorder: Recorder) -> None:
    """A schedule of seconds calls again and again."""
    scheduler.sync(jobs(job("db", SECONDLY)), never)
    recorder.wait_for(2)
    assert set(recorder.calls) == {"db"}


def test_missed_run_is_caught_up_once(scheduler: Scheduler, recorder: Recorder) -> None:
    """S3: a daemon that was down over several schedule points makes one run at once."""
    scheduler.sync(jobs(job("db")), long_ago)
    recorder.wait_for(1)
    scheduler.sync(jobs(job("db")), long_ago)
    coming = scheduler.next_runs()["db"]
    assert (coming.hour, coming.minute) == (2, 0)
    assert recorder.calls == ["db"]


def test_a_group_catches_up_for_any_of_its_members(scheduler: Scheduler, recorder: Recorder) -> None:
    """S3: a new member that was never saved does not keep the others from what they missed."""
    scheduler.sync(
        jobs(job("shop", members=("new", "db"))), lambda volume: long_ago(volume) if volume == "db" else None
    )
    recorder.wait_for(1)
    assert recorder.calls == ["shop"]
    assert scheduler.next_runs().keys() == {"new", "db"}


@pytest.mark.parametrize("last_success", [never, just_now])
def test_volume_that_missed_nothing_waits(scheduler: Scheduler, recorder: Recorder, last_success) -> None:
    """S3: no run at once for a volume that was never saved, nor for one saved since its last point."""
    scheduler.sync(jobs(job("db")), last_success)
    coming = scheduler.next_runs()["db"]
    assert coming > datetime.now(UTC)
    assert (coming.hour, coming.minute) == (2, 0)


def test_point_without_a_turn_is_skipped_logged_and_counted(scheduler: Scheduler, recorder: Recorder) -> None:
    """S4: where the last run still goes on at the next point, that point is counted for each volume."""
    recorder.busy = True
    with capture_logs() as logged:
        scheduler.sync(jobs(job("shop", SECONDLY, ("db", "files"))), never)
        recorder.wait_for(3)
    assert scheduler.skips().keys() == {"db", "files"}
    assert scheduler.skips()["db"] >= 2
    told = [entry for entry in logged if entry["event"].startswith("backup skipped")]
    assert {entry["volume"] for entry in told} == {"db", "files"}


def test_volume_that_is_gone_runs_no_more(scheduler: Scheduler) -> None:
    """A volume that is no longer protected loses its job, and its count."""
    scheduler.sync(jobs(job("db"), job("files")), never)
    scheduler.skipped["db"] += 1
    scheduler.sync(jobs(job("files")), never)
    assert scheduler.next_runs().keys() == {"files"}
    assert scheduler.skips() == {}


def test_changed_schedule_takes_effect_at_once(scheduler: Scheduler, recorder: Recorder) -> None:
    """A new schedule replaces the old one without a run in between."""
    scheduler.sync(jobs(job("db")), never)
    scheduler.sync(jobs(job("db", "30 4 * * *")), long_ago)
    coming = scheduler.next_runs()["db"]
    assert (coming.hour, coming.minute) == (4, 30)
    assert recorder.calls == []


def test_clock_that_was_set_back_keeps_nobody_waiting(recorder: Recorder) -> None:
    """S1: jobs that a clock years ahead has put off come at their next point by the clock that is right."""
    wrong = timedelta(days=4000)

    def clock(zone: tzinfo) -> datetime:
        return datetime.now(zone) + wrong

    scheduler = Scheduler(recorder, timezone=UTC, clock=clock)
    scheduler.start()
    try:
        scheduler.sync(jobs(job("db"), job("log", SECONDLY)), never)
        scheduler.every("upkeep", DAILY, lambda: None)
        wrong = timedelta(0)
        scheduler.clock_moved()
        recorder.wait_for(2)
        day = datetime.now(UTC) + timedelta(days=1, minutes=1)
        assert scheduler.next_runs()["db"] < day
        assert scheduler.next_upkeep()["upkeep"] < day
        assert set(recorder.calls) == {"log"}
    finally:
        scheduler.stop()


def test_clock_that_was_set_forward_runs_once_what_is_due(recorder: Recorder) -> None:
    """S1: whatever lay between is one run, and the job goes on from the new time."""
    ago = timedelta(days=400)
    late = Scheduler(recorder, timezone=UTC, clock=lambda zone: datetime.now(zone) - ago)
    late.start()
    try:
        late.sync(jobs(job("db", "0 * * * *")), never)
        recorder.wait_for(1)
        coming = late.next_runs()["db"]
        assert datetime.now(UTC) < coming <= datetime.now(UTC) + timedelta(hours=1)
        assert recorder.calls == ["db"]
    finally:
        late.stop()


def test_another_time_zone_moves_every_point(scheduler: Scheduler) -> None:
    """A job follows the zone and the jitter that hold now."""
    scheduler.sync(jobs(job("db")), never)
    scheduler.retime(ZoneInfo("Asia/Tokyo"), timedelta(hours=1))
    coming = scheduler.next_runs()["db"]
    assert coming == cron.parse(DAILY, seed="db", jitter=timedelta(hours=1)).next(
        datetime.now(ZoneInfo("Asia/Tokyo"))
    )
    assert coming.astimezone(UTC).hour == 17


def test_scheduler_that_notices_no_point_is_dead(scheduler: Scheduler) -> None:
    """A point that passed minutes ago and was not taken says that nobody looks at the clock."""
    scheduler.sync(jobs(job("db")), never)
    assert scheduler.lives()
    stopped = Scheduler(lambda name: True, timezone=UTC)
    assert not stopped.lives()
    days = timedelta(days=2)
    behind = Scheduler(lambda name: True, timezone=UTC, clock=lambda zone: datetime.now(zone) + days)
    behind.start()
    try:
        behind._clockwork.pause()
        behind.sync(jobs(job("db")), never)
        assert behind.lives()
        days = timedelta(days=4)
        assert not behind.lives()
    finally:
        behind.stop()


def test_upkeep_never_runs_twice_at_once(scheduler: Scheduler) -> None:
    """Calls that belong to no volume neither hold up volumes nor join another of their kind."""
    running, most, calls = 0, 0, []
    release, called = threading.Event(), threading.Semaphore(0)

    def upkeep(name: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        calls.append(name)
        called.release()
        release.wait(PATIENCE_SECONDS)
        running -= 1

    scheduler.every("first", SECONDLY, lambda: upkeep("first"))
    scheduler.every("second", SECONDLY, lambda: upkeep("second"))
    assert called.acquire(timeout=PATIENCE_SECONDS)
    release.set()
    for _ in range(5):
        assert called.acquire(timeout=PATIENCE_SECONDS)
    assert most == 1
    assert set(calls) == {"first", "second"}


def test_upkeep_that_was_missed_is_caught_up(scheduler: Scheduler) -> None:
    """S3: a machine that is off at that hour of every week is not left without."""
    called, early = threading.Event(), threading.Event()
    scheduler.every("missed", "0 2 * * *", called.set, last=long_ago(""))
    scheduler.every("never", "0 2 * * *", early.set)
    scheduler.every("gone", "0 2 * * *", early.set)
    scheduler.no_longer("gone")
    scheduler.no_longer("unheard of")
    assert called.wait(PATIENCE_SECONDS)
    assert scheduler.next_upkeep().keys() == {"missed", "never"}
    assert not early.is_set()


def test_missed_point_is_the_latest_one() -> None:
    """A success before the latest point has missed it; one at or after it has not."""
    schedule = cron.parse("0 2 * * *", seed="db")
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    point = datetime(2026, 11, 23, 2, tzinfo=UTC)
    assert missed(schedule, point - timedelta(seconds=1), now) == point
    assert missed(schedule, point, now) is None
    assert missed(schedule, None, now) is None
