"""`backupd forget`."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import TypeVar

import structlog

from backupd.cli.output import confirm, print_json, say, speak
from backupd.engine.discovery import survey
from backupd.errors import BackupdError, Interrupted, PartFailed, UsageError
from backupd.opening import opened, zone
from backupd.operations.forget import ForgetPlan, accept_collapse, execute, plan, plan_one
from backupd.operations.lock import volume_lock
from backupd.protection import Protection
from backupd.repository import Repository
from backupd.retention import Retention
from backupd.settings import Settings
from backupd.wiring import connected, protections

log = structlog.get_logger(__name__)

T = TypeVar("T")
Steps = Mapping[str, Callable[[], T]]


def run(arguments: Namespace, settings: Settings) -> int:
    """Plan for every volume and print that; then, once it is confirmed, forget."""
    _check(arguments, settings)
    speak(settings)
    host = arguments.host or settings.host
    failures: dict[str, BackupdError] = {}
    with opened(settings) as repository:
        if arguments.accept_collapse:
            return _accept(arguments, repository, host)
        steps = _steps(arguments, settings, repository, host)
        plans = _each(steps, failures)
        for each in plans.values():
            _show(arguments, each)
        done: Mapping[str, list[str]] = {}
        if not arguments.dry_run:
            doomed = {name: each for name, each in plans.items() if each.forgotten}
            confirm([each.volume for each in doomed.values()], yes=arguments.yes)
            done = _each(
                {
                    name: partial(_forget, settings, repository, each, steps[name])
                    for name, each in doomed.items()
                },
                failures,
            )
    if arguments.json:
        print_json([{**each.as_json(), "forgotten": done.get(name, [])} for name, each in plans.items()])
    _raise(failures, len(steps))
    return 0


def _check(arguments: Namespace, settings: Settings) -> None:
    named, single = bool(arguments.volumes), arguments.snapshot is not None
    if single and (named or arguments.keep):
        raise UsageError("--snapshot forgets one snapshot by its id", hint="leave volumes and --keep out")
    if arguments.even_last and not single:
        raise UsageError("--even-last goes with --snapshot", hint="a policy never forgets the last good one")
    if arguments.accept_collapse and (single or arguments.keep or arguments.dry_run or not named):
        raise UsageError(
            "--accept-collapse takes the names of the volumes, and nothing else",
            hint="`backupd snapshots` shows which volumes have collapsed",
        )
    elsewhere = arguments.host not in (None, settings.host)
    if elsewhere and not (single or arguments.accept_collapse or (named and arguments.keep)):
        raise UsageError(
            f"what {arguments.host} keeps of which volume is not known here",
            hint=f"name the volumes and what to keep: backupd forget --host {arguments.host} 'shop_*' "
            "--keep last=3,daily=7",
        )


def _steps(arguments: Namespace, settings: Settings, repository: Repository, host: str) -> Steps[ForgetPlan]:
    """A plan to be made for each volume, or for the one snapshot."""
    now = datetime.now(UTC)
    if arguments.snapshot is not None:
        one = partial(plan_one, repository, arguments.snapshot, host=host, now=now)
        return {arguments.snapshot: partial(one, even_last=arguments.even_last)}
    names = _names(arguments.volumes, repository, host)
    known = {} if arguments.volumes and arguments.keep else _known(settings)
    return {
        name: partial(_plan, arguments, repository, host, name, known.get(name), now, settings)
        for name in names
    }


def _names(patterns: Sequence[str], repository: Repository, host: str) -> list[str]:
    have = repository.volumes(host)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in have):
            repository.find(pattern, host=host)  # raises, naming what there is
    return [name for name in have if not patterns or any(fnmatchcase(name, each) for each in patterns)]


def _known(settings: Settings) -> Mapping[str, Protection]:
    with connected(settings) as engine:
        return {each.volume.name: each for each in protections(settings, survey(engine))}


def _plan(
    arguments: Namespace,
    repository: Repository,
    host: str,
    volume: str,
    protection: Protection | None,
    now: datetime,
    settings: Settings,
) -> ForgetPlan:
    policy = arguments.keep if arguments.volumes and arguments.keep else _policy(protection)
    if isinstance(policy, Retention):
        keep = arguments.keep or policy
        return plan(repository, host=host, volume=volume, policy=keep, now=now, zone=zone(settings))
    if arguments.volumes:
        raise UsageError(f"{volume}: {policy}", hint="say what to keep: --keep last=1,daily=7")
    return ForgetPlan(host, volume, untouched=policy)


def _policy(protection: Protection | None) -> Retention | str:
    """What labels and settings say of a volume, or why that is nothing."""
    if protection is None:
        return "the engine has no such volume, these snapshots may be all that is left of it"
    if protection.errors:
        return "; ".join(protection.errors)
    return protection.policy.retention if protection.policy else f"it is not protected: {protection.origin}"


def _show(arguments: Namespace, plan: ForgetPlan) -> None:
    """A dry run's result is the plan; else it is what goes on."""
    if not arguments.dry_run:
        say(str(plan))
    elif not arguments.json:
        sys.stdout.write(f"{plan}\n")


def _forget(
    settings: Settings, repository: Repository, confirmed: ForgetPlan, replan: Callable[[], ForgetPlan]
) -> list[str]:
    """Forget what was planned and confirmed, as far as it would be planned again now, with no backup on."""
    with volume_lock(settings.state_dir, confirmed.volume):
        forgotten = execute(repository, confirmed.agreed(replan()))
    log.info(
        "snapshots forgotten",
        volume=confirmed.volume,
        host=confirmed.host,
        policy=confirmed.policy,
        forgotten=len(forgotten),
        snapshots=forgotten,
    )
    return forgotten


def _accept(arguments: Namespace, repository: Repository, host: str) -> int:
    accepted = {
        name: accept_collapse(repository, host=host, volume=name)
        for name in _names(arguments.volumes, repository, host)
    }
    for name, snapshots in accepted.items():
        say(f"{name}: accepted {', '.join(snapshots)}" if snapshots else f"{name} has not collapsed")
    if arguments.json:
        print_json([{"volume": name, "accepted": snapshots} for name, snapshots in accepted.items()])
    return 0


def _each(steps: Steps[T], failures: dict[str, BackupdError]) -> dict[str, T]:
    """What the steps return; one that fails is noted and does not keep the others from going on."""
    done: dict[str, T] = {}
    for name, step in steps.items():
        try:
            done[name] = step()
        except Interrupted:
            raise
        except BackupdError as error:
            failures[name] = error
    return done


def _raise(failures: Mapping[str, BackupdError], count: int) -> None:
    if count == 1:
        for error in failures.values():
            raise error
    for name, error in failures.items():
        say(f"{name}: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else ""))
    if failures:
        failed = f"{len(failures)} of {count} volumes failed: {', '.join(failures)}"
        raise BackupdError(failed) if len(failures) == count else PartFailed(failed)
