"""When each protected volume is backed up: cron times, missed runs, no overlap, so many at once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo

import structlog
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobSubmissionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from backupd.cron import Schedule, parse
from backupd.protection import Policy

log = structlog.get_logger(__name__)

_UPKEEP = "upkeep"


class Scheduler:
    """Calls `run(volume, policy)` at each of a volume's schedule points, from one of `concurrency` threads.

    A volume's calls never overlap: where the last one still waits or goes on at the next point, that point
    is skipped, logged and counted in `skipped`. Points that pass while the machine sleeps make one call.
    `run` must not raise.
    """

    def __init__(
        self, run: Callable[[str, Policy], None], *, concurrency: int, timezone: tzinfo | None = None
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self._run = run
        self._policies: dict[str, Policy] = {}
        self._jobs = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(concurrency), _UPKEEP: ThreadPoolExecutor(1)},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            **({"timezone": timezone} if timezone else {}),
        )
        self._jobs.add_listener(self._on_overlap, EVENT_JOB_MAX_INSTANCES)
        # What it says about each job and overlap is said better here.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)

    def start(self) -> None:
        """Start calling."""
        self._jobs.start()

    def stop(self) -> None:
        """Call no more, and wait for the calls that go on."""
        self._jobs.shutdown(wait=True)

    def sync(self, policies: Mapping[str, Policy], last_success: Callable[[str], datetime | None]) -> None:
        """Schedule exactly the volumes that `policies` names.

        A volume that is new here and whose last success is older than its latest schedule point has missed
        a run and gets one at once. One that was never saved waits for its next point.
        """
        for volume in self._policies.keys() - policies.keys():
            self._remove(volume)
        for volume, policy in policies.items():
            known = self._policies.get(volume)
            self._policies[volume] = policy
            if known is None:
                self._add(volume, policy.schedule, last_success(volume))
            elif known.schedule != policy.schedule:
                self._add(volume, policy.schedule, None)

    def catch_up(self, last_success: Callable[[str], datetime | None]) -> None:
        """Give every volume that has missed a run, because none could succeed for a time, one at once."""
        now = datetime.now(self._jobs.timezone)
        for volume, policy in self._policies.items():
            if due := missed(parse(policy.schedule, seed=volume), last_success(volume), now):
                self._jobs.modify_job(volume, next_run_time=now)
                log.info("missed backup is caught up", volume=volume, missed=due)

    def every(
        self, name: str, expression: str, call: Callable[[], None], *, last: datetime | None = None
    ) -> None:
        """Call at each point of a schedule that no volume has; a point missed since `last` is caught up.

        Such calls never run at the same time, nor take a volume's turn. `call` must not raise.
        """
        schedule = parse(expression, seed=name)
        now = datetime.now(self._jobs.timezone)
        self._jobs.add_job(
            call,
            _CronTrigger(schedule),
            id=f"{_UPKEEP}:{name}",  # no volume's name has a colon
            executor=_UPKEEP,
            next_run_time=now if missed(schedule, last, now) else schedule.next(now),
            replace_existing=True,
        )

    def next_run(self, volume: str) -> datetime | None:
        """When the volume's turn comes next; None where it is not scheduled."""
        job = self._jobs.get_job(volume)
        return job.next_run_time if job else None

    def _add(self, volume: str, expression: str, last_success: datetime | None) -> None:
        schedule = parse(expression, seed=volume)
        now = datetime.now(self._jobs.timezone)
        due = missed(schedule, last_success, now)
        first = now if due else schedule.next(now)
        self._jobs.add_job(
            self._call,
            _CronTrigger(schedule),
            [volume],
            id=volume,
            next_run_time=first,
            replace_existing=True,
        )
        if due:
            log.info("missed backup is caught up", volume=volume, missed=due, last_success=last_success)
        else:
            log.info("volume scheduled", volume=volume, schedule=expression, next_run=first)

    def _remove(self, volume: str) -> None:
        del self._policies[volume]
        self._jobs.remove_job(volume)
        log.info("volume no longer scheduled", volume=volume)

    def _call(self, volume: str) -> None:
        # Looked up now: labels may have changed since the job was made, or the volume be gone.
        policy = self._policies.get(volume)
        if policy is not None:
            self._run(volume, policy)

    def _on_overlap(self, event: JobSubmissionEvent) -> None:
        if event.job_id.startswith(f"{_UPKEEP}:"):
            return
        self.skipped[event.job_id] += 1
        log.warning(
            "backup skipped: the last one still goes on",
            volume=event.job_id,
            skipped=self.skipped[event.job_id],
        )


def missed(schedule: Schedule, last_success: datetime | None, now: datetime) -> datetime | None:
    """The latest schedule point, if there was a success once but none since that point."""
    if last_success is None:
        return None
    point = schedule.previous(now)
    return point if point is not None and last_success < point else None


class _CronTrigger(BaseTrigger):  # type: ignore[misc]  # apscheduler has no types
    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        after = previous_fire_time.astimezone(now.tzinfo) if previous_fire_time else now
        return self._schedule.next(after)
