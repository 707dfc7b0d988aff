"""The scheduler, with its real clock and threads and schedules of one second."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from backupd import cron
from backupd.protection import Policy
from backupd.retention import Retention
from backupd.scheduler import Scheduler, missed

PATIENCE_SECONDS = 20
SECONDLY = "* * * * * *"
DAILY = Policy(schedule="0 2 * * *", quiesce="pause", exclude=(), retention=Retention(last=1))
EACH_SECOND = replace(DAILY, schedule=SECONDLY)


class Recorder:
    """Notes each call; holds it until `release` is set."""

    def __init__(self, *, held: bool = False) -> None:
        self.calls: list[tuple[str, Policy]] = []
        self.running = self.most = 0
        self.release = threading.Event()
        self._news = threading.Condition()
        if not held:
            self.release.set()

    def __call__(self, volume: str, policy: Policy) -> None:
        with self._news:
            self.calls.append((volume, policy))
            self.running += 1
            self.most = max(self.most, self.running)
            self._news.notify_all()
        self.release.wait(PATIENCE_SECONDS)
        with self._news:
            self.running -= 1

    def wait_for(self, count: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.calls) >= count, PATIENCE_SECONDS), self.calls


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def scheduler(recorder: Recorder) -> Iterator[Scheduler]:
    made = Scheduler(recorder, concurrency=2, timezone=UTC)
    made.start()
    yield made
    recorder.release.set()
    made.stop()


def never(volume: str) -> datetime | None:
    return None


def long_ago(volume: str) -> datetime | None:
    return datetime.now(UTC) - timedelta(days=3)


def just_now(volume: str) -> datetime | None:
    return datetime.now(UTC)


def test_volume_runs_at_every_schedule_point(scheduler: Scheduler, recorder: Recorder) -> None:
    """A schedule of seconds calls again and again, with the volume's policy."""
    scheduler.sync({"db": EACH_SECOND}, never)
    recorder.wait_for(2)
    assert recorder.calls[0] == ("db", EACH_SECOND)


def test_missed_run_is_caught_up_once(scheduler: Scheduler, recorder: Recorder) -> None:
    """S3: a daemon that was down over several schedule points makes one run at once."""
    scheduler.sync({"db": DAILY}, long_ago)
    recorder.wait_for(1)
    scheduler.sync({"db": DAILY}, long_ago)
    coming = scheduler.next_run("db")
    assert coming is not None
    assert (coming.hour, coming.minute) == (2, 0)
    assert recorder.calls == [("db", DAILY)]


@pytest.mark.parametrize("last_success", [never, just_now])
def test_volume_that_missed_nothing_waits(scheduler: Scheduler, recorder: Recorder, last_success) -> None:
    """S3: no run at once for a volume that was never saved, nor for one saved since its last point."""
    scheduler.sync({"db": DAILY}, last_success)
    coming = scheduler.next_run("db")
    assert coming is not None
    assert coming > datetime.now(UTC)
    assert recorder.calls == []


def test_point_during_a_run_is_skipped_logged_and_counted(scheduler: Scheduler, recorder: Recorder) -> None:
    """S4: a run that goes on at the next point is not joined by a second one."""
    recorder.release.clear()
    with capture_logs() as logged:
        scheduler.sync({"db": EACH_SECOND}, never)
        recorder.wait_for(1)
        poll = threading.Event()
        for _ in range(PATIENCE_SECONDS * 10):
            if scheduler.skipped["db"] >= 2:
                break
            poll.wait(0.1)
    assert scheduler.skipped["db"] >= 2
    assert len(recorder.calls) == 1
    told = [entry for entry in logged if entry["event"].startswith("backup skipped")]
    assert told[0]["volume"] == "db"
    recorder.release.set()
    recorder.wait_for(2)


def test_no_more_runs_at_once_than_the_limit(scheduler: Scheduler, recorder: Recorder) -> None:
    """Of five volumes that are due together, two run and the others wait for their turn."""
    recorder.release.clear()
    scheduler.sync({f"v{number}": DAILY for number in range(5)}, long_ago)
    recorder.wait_for(2)
    recorder.release.set()
    recorder.wait_for(5)
    assert recorder.most == 2
    assert sorted(volume for volume, _ in recorder.calls) == ["v0", "v1", "v2", "v3", "v4"]


def test_volume_that_is_gone_runs_no_more(scheduler: Scheduler) -> None:
    """A volume that is no longer protected loses its job."""
    scheduler.sync({"db": DAILY, "files": DAILY}, never)
    scheduler.sync({"files": DAILY}, never)
    assert scheduler.next_run("db") is None
    assert scheduler.next_run("files") is not None


def test_changed_schedule_takes_effect_at_once(scheduler: Scheduler, recorder: Recorder) -> None:
    """A new schedule replaces the old one without a run in between."""
    scheduler.sync({"db": DAILY}, never)
    scheduler.sync({"db": replace(DAILY, schedule="30 4 * * *")}, long_ago)
    coming = scheduler.next_run("db")
    assert coming is not None
    assert (coming.hour, coming.minute) == (4, 30)
    assert recorder.calls == []


def test_changed_policy_reaches_the_next_run(scheduler: Scheduler, recorder: Recorder) -> None:
    """What labels say at the time of the run counts, not what they said when it was scheduled."""
    scheduler.sync({"db": EACH_SECOND}, never)
    loud = replace(EACH_SECOND, quiesce="none")
    scheduler.sync({"db": loud}, never)
    recorder.wait_for(2)
    assert recorder.calls[-1] == ("db", loud)


def test_upkeep_runs_by_itself_and_never_twice_at_once(scheduler: Scheduler, recorder: Recorder) -> None:
    """What belongs to no volume neither waits for volumes nor joins another of its kind."""
    upkeep = Recorder(held=True)
    policy = EACH_SECOND
    recorder.release.clear()
    scheduler.sync({f"v{number}": DAILY for number in range(3)}, long_ago)
    recorder.wait_for(2)
    scheduler.every("first", SECONDLY, lambda: upkeep("first", policy))
    scheduler.every("second", SECONDLY, lambda: upkeep("second", policy))
    upkeep.wait_for(1)
    upkeep.release.set()
    upkeep.wait_for(4)
    assert upkeep.most == 1
    assert {name for name, _ in upkeep.calls} == {"first", "second"}


def test_upkeep_that_was_missed_is_caught_up(scheduler: Scheduler) -> None:
    """S3: a machine that is off at that hour of every week is not left without."""
    called, early = threading.Event(), threading.Event()
    scheduler.every("missed", "0 2 * * *", called.set, last=long_ago(""))
    scheduler.every("never", "0 2 * * *", early.set)
    assert called.wait(PATIENCE_SECONDS)
    assert not early.is_set()


def test_missed_point_is_the_latest_one() -> None:
    """A success before the latest point has missed it; one at or after it has not."""
    schedule = cron.parse("0 2 * * *", seed="db")
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    point = datetime(2026, 11, 23, 2, tzinfo=UTC)
    assert missed(schedule, point - timedelta(seconds=1), now) == point
    assert missed(schedule, point, now) is None
    assert missed(schedule, None, now) is None
