"""When each protected volume's turn comes: cron times, missed runs, no overlap."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, tzinfo

import structlog
from apscheduler.executors.debug import DebugExecutor
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from backupd.cron import Schedule, parse
from backupd.jobs import Job

log = structlog.get_logger(__name__)

LATE_SECONDS = 60
"""A schedule point that has not been noticed for so long says that nobody looks at the clock any more."""

_UPKEEP = "upkeep"


class Scheduler:
    """Calls `due(key)` at each of a job's schedule points; what it returns says whether the job got a turn.

    Where it did not, because the last one still waits or goes on, the point is logged and counted in
    `skipped`. Points that pass while the machine sleeps make one call. `due` must return at once. A job's
    points are those of its expression, each later by a part of `jitter` that belongs to its seed.
    """

    def __init__(
        self,
        due: Callable[[str], bool],
        *,
        timezone: tzinfo,
        jitter: timedelta = timedelta(0),
        clock: Callable[[tzinfo], datetime] = datetime.now,
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self._due, self._clock, self._jitter = due, clock, jitter
        self._jobs: dict[str, Job] = {}
        self._clockwork = BackgroundScheduler(
            # `due` returns at once, so it needs no thread
            executors={"default": DebugExecutor(), _UPKEEP: ThreadPoolExecutor(1)},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone=timezone,
        )
        # What it says about each job and overlap is said better here.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)

    def start(self) -> None:
        """Start calling."""
        self._clockwork.start()

    def stop(self) -> None:
        """Call no more, and wait for the upkeep that goes on."""
        self._clockwork.shutdown(wait=True)

    def lives(self) -> bool:
        """Whether schedule points are still noticed when they come."""
        late = self._now() - timedelta(seconds=LATE_SECONDS)
        return bool(self._clockwork.running) and all(point > late for point in self._points().values())

    @property
    def jobs(self) -> Mapping[str, Job]:
        """The jobs by their keys, as they were last told."""
        return self._jobs

    def sync(self, jobs: Mapping[str, Job], last_success: Callable[[str], datetime | None]) -> None:
        """Schedule exactly these jobs; `last_success` is asked for the members of new ones.

        A job that is new here, and of which a member's last success is older than its latest schedule point,
        has missed a run and gets one at once. One that was never saved waits for its next point.
        """
        before, self._jobs = self._jobs, dict(jobs)
        for name in before.keys() - jobs.keys():
            self._clockwork.remove_job(name)
            for volume in before[name].members:
                log.info("volume no longer scheduled", volume=volume)
        for name, job in jobs.items():
            known = before.get(name)
            if known is None or known.schedule != job.schedule:
                self._add(job, last_success if known is None else _never)

    def catch_up(self, last_success: Callable[[str], datetime | None]) -> None:
        """Give every job that has missed a run, because none could succeed for a time, one at once."""
        now = self._now()
        for job in self._jobs.values():
            if due := self._missed(job, last_success, now):
                self._clockwork.modify_job(job.key, next_run_time=now)
                self._tell_missed(job, due)

    def retime(self, timezone: tzinfo, jitter: timedelta) -> None:
        """Follow another clock from now on; nothing is caught up."""
        self._clockwork.timezone, self._jitter = timezone, jitter
        for job in self._jobs.values():
            self._add(job, _never)

    def clock_moved(self) -> None:
        """Notice that the machine's clock was set: what is due runs, what lies too far ahead comes nearer.

        Without this a clock that was set back would keep every job waiting until it is as late as before.
        """
        now = self._now()
        for entry in self._clockwork.get_jobs():
            if entry.next_run_time is not None and entry.next_run_time > now:
                entry.modify(next_run_time=entry.trigger.get_next_fire_time(None, now))
        self._clockwork.wakeup()

    def every(
        self, name: str, expression: str, call: Callable[[], None], *, last: datetime | None = None
    ) -> None:
        """Call at each point of a schedule that no volume has; a point missed since `last` is caught up.

        Such calls never run at the same time, nor take a volume's turn. `call` must not raise.
        """
        schedule = parse(expression, seed=name)
        now = self._now()
        self._clockwork.add_job(
            call,
            _CronTrigger(schedule),
            id=f"{_UPKEEP}:{name}",  # no job's key begins so
            executor=_UPKEEP,
            next_run_time=now if missed(schedule, last, now) else schedule.next(now),
            replace_existing=True,
        )

    def no_longer(self, name: str) -> None:
        """Take back what `every` was told, if it was."""
        if self._clockwork.get_job(f"{_UPKEEP}:{name}"):
            self._clockwork.remove_job(f"{_UPKEEP}:{name}")

    def next_runs(self) -> dict[str, datetime]:
        """When each volume's turn comes next."""
        points, jobs = self._points(), self._jobs
        return {volume: points[name] for name in points.keys() & jobs.keys() for volume in jobs[name].members}

    def next_upkeep(self) -> dict[str, datetime]:
        """When each call that `every` was told comes next."""
        points, prefix = self._points(), f"{_UPKEEP}:"
        return {id_.removeprefix(prefix): time for id_, time in points.items() if id_.startswith(prefix)}

    def skips(self) -> dict[str, int]:
        """How many schedule points of each volume were skipped, of those that were."""
        return {
            volume: count
            for name, count in self.skipped.items()
            if name in self._jobs
            for volume in self._jobs[name].members
        }

    def _add(self, job: Job, last_success: Callable[[str], datetime | None]) -> None:
        schedule = self._schedule(job)
        now = self._now()
        due = self._missed(job, last_success, now)
        first = now if due else schedule.next(now)
        self._clockwork.add_job(
            self._call,
            _CronTrigger(schedule),
            [job.key],
            id=job.key,
            next_run_time=first,
            replace_existing=True,
        )
        if due:
            self._tell_missed(job, due)
        else:
            for volume in job.members:
                log.info("volume scheduled", volume=volume, schedule=job.schedule, next_run=first)

    def _points(self) -> dict[str, datetime]:
        return {entry.id: entry.next_run_time for entry in self._clockwork.get_jobs()}

    def _schedule(self, job: Job) -> Schedule:
        return parse(job.schedule, seed=job.seed, jitter=self._jitter)

    def _missed(
        self, job: Job, last_success: Callable[[str], datetime | None], now: datetime
    ) -> datetime | None:
        schedule = self._schedule(job)
        points = (missed(schedule, last_success(volume), now) for volume in job.members)
        return next((point for point in points if point is not None), None)

    def _tell_missed(self, job: Job, point: datetime) -> None:
        for volume in job.members:
            log.info("missed backup is caught up", volume=volume, missed=point)

    def _call(self, key: str) -> None:
        job = self._jobs.get(key)
        if job is None or self._due(key):
            return
        self.skipped[key] += 1
        for volume in job.members:
            log.warning(
                "backup skipped: the last one still goes on", volume=volume, skipped=self.skipped[key]
            )

    def _now(self) -> datetime:
        return self._clock(self._clockwork.timezone)


def missed(schedule: Schedule, last_success: datetime | None, now: datetime) -> datetime | None:
    """The latest schedule point, if there was a success once but none since that point."""
    if last_success is None:
        return None
    point = schedule.previous(now)
    return point if point is not None and last_success < point else None


def _never(volume: str) -> datetime | None:
    return None


class _CronTrigger(BaseTrigger):  # type: ignore[misc]  # apscheduler has no types
    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Nothing between the last time and now: what was missed makes one call, which is under way."""
        return self._schedule.next(now)
