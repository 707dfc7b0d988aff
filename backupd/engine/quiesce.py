"""Containers are calmed while their volumes are read, and go on afterwards, whatever happens."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from backupd.engine.client import Engine
from backupd.engine.door import door
from backupd.engine.image import HelperImage
from backupd.engine.journal import Change, Journal
from backupd.engine.quiet.calm import Hands, calm
from backupd.engine.quiet.case import Case
from backupd.engine.quiet.condition import condition
from backupd.engine.quiet.gap import BEFORE_SECONDS, WITHIN_SECONDS, await_gap
from backupd.engine.quiet.patience import Patience
from backupd.engine.quiet.recovery import recover, undo
from backupd.engine.quiet.refusal import Sharing, refuse, refuse_to_cut_off
from backupd.engine.quiet.report import Calmed, Report
from backupd.engine.quiet.successor import compose_identity
from backupd.errors import BackupdError, Interrupted, QuiesceFailed
from backupd.treatment import Treatment
from backupd.volume import Container

__all__ = ["Calmed", "Patient", "Quiesce", "Report", "recover"]

LOOKS_MAX = 5
"""How often it is looked for containers that were started meanwhile, before that is a failure."""

_WAIT_SECONDS = 0.2


@dataclass(frozen=True)
class Patient:
    """A container that writes to a volume which is to be read, and how it is calmed."""

    container: Container
    treatment: Treatment


Look = Callable[[], Sequence[Patient]]
"""Every container, running or not, that mounts one of the volumes read-write."""


class Quiesce:
    """The quiet around the reading of one or several volumes: a context, which may be ended earlier.

    Inside, every container that `look` names is as its treatment says; who was stopped or paused before stays
    so. Order: what is refused is refused first, then hooks run, then containers are stopped and last paused,
    those first that depend on others; undone backwards. Each step is in the journal before it is done.

    Raises `QuiesceFailed` with everything undone; or, where a container cannot be brought back, naming the
    command that does it: the journal then keeps it for `recover`. Another run's container is waited for.
    After `limit_seconds` everything is undone from a thread of its own, and `check` raises.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        look: Look,
        *,
        image: HelperImage,
        instance: str,
        limit_seconds: float,
        cancel: threading.Event | None = None,
    ) -> None:
        self._engine, self._journal, self._look = engine, journal, look
        self._limit_seconds = limit_seconds
        self._cancel = cancel or threading.Event()
        self._run = uuid.uuid4().hex
        self._cases: dict[str, Case] = {}
        self._changes: list[Change] = []
        self._steps = threading.RLock()
        self._ending = self._kept = False
        self._expired, self._over = threading.Event(), threading.Event()
        self._failure: BackupdError | None = None
        self._degraded: list[str] = []
        self._report: Report | None = None
        self._hands = Hands(engine, image.reference, instance, self._steps, self._record, self._may_go_on)

    def __enter__(self) -> Quiesce:
        self._journal.runs.add(self._run)
        try:
            self._enter()
        except BaseException:
            self._undo()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.end()
        else:
            self._undo()
            if self._failure is not None and not isinstance(error, QuiesceFailed):
                raise self._failure from error

    def check(self) -> None:
        """Raise `QuiesceFailed` once the application has been let go before its time."""
        if self._expired.is_set():
            raise QuiesceFailed(
                f"the containers went on after {self._limit_seconds:g} s, before all was read",
                hint="raise quiesce.limit, or find out what is so slow",
            )

    def keep(self) -> tuple[Change, ...]:
        """Leave stopped what is stopped, and forget that it was us; the rest is undone all the same.

        Returned is what starts it again, later: record it, and `recover`.
        """
        self._kept = True
        return tuple(change for change in self._changes if change.action == "stop")

    def end(self) -> Report:
        """Let everybody go on, and say what it was worth; again, the same. For any thread.

        `QuiesceFailed` names a container that did not come back.
        """
        self._undo()
        if self._failure is not None:
            raise self._failure
        with self._steps:
            if self._report is None:
                self._report = self._judge()
            return self._report

    def _enter(self) -> None:
        self._clean_up()
        newcomers = self._admit(self._look())
        self._watch()
        for _ in range(LOOKS_MAX):
            calm(self._hands, newcomers)
            newcomers = self._admit(self._look())
            if not newcomers:
                return
        raise QuiesceFailed("containers that write to the volume are started again and again")

    def _clean_up(self) -> None:
        """Bring back what runs that are dead have left; what is not concerned must not fail for it."""
        try:
            recover(self._engine, self._journal)
        except QuiesceFailed as error:
            self._degraded.append(error.message)

    def _admit(self, patients: Sequence[Patient]) -> list[Case]:
        """Claim those that are new, or run and did not before; refuse what would do harm.

        Only who has the claim looks how a container is: another run may have paused or stopped it.
        """
        new = [patient for patient in patients if self._is_new(patient.container)]
        self._claim([self._claim_on(patient.container) for patient in new])
        self._await_gaps(new)
        found = [case for patient in new if (case := self._examine(patient)) is not None]
        self._refuse_to_cut_off(found)
        self._cases.update({case.id: case for case in found})
        return found

    def _await_gaps(self, patients: Sequence[Patient]) -> None:
        """Wait here for health checks whose time is not known, while nobody stands still for that."""
        at_most = WITHIN_SECONDS if self._cases else BEFORE_SECONDS
        deadline = time.monotonic() + at_most
        for patient in patients:
            container, left = patient.container, deadline - time.monotonic()
            if patient.treatment.mode == "pause" and container.state == "running" and left > 0:
                await_gap(self._engine, container.id, container.name, self._may_go_on, at_most=left)

    def _is_new(self, container: Container) -> bool:
        known = self._cases.get(container.id)
        return known is None or (not known.settled and container.state == "running")

    def _claim_on(self, container: Container) -> Change:
        identity = compose_identity(container)
        return Change(self._engine.id, container.id, container.name, "claim", self._run, identity)

    def _examine(self, patient: Patient) -> Case | None:
        container = patient.container
        before = condition(self._engine, container.id, container.name)
        if before is None or before.removing:
            return None
        refuse(container.name, patient.treatment, before, limit_seconds=self._limit_seconds)
        return Case(container, patient.treatment, before, self._claim_on(container))

    def _refuse_to_cut_off(self, found: Sequence[Case]) -> None:
        cases = (*self._cases.values(), *found)
        stopped = {
            case.id: case.name for case in cases if case.treatment.mode == "stop" and case.before.running
        }
        if stopped:
            refuse_to_cut_off(stopped, _sharing(self._engine))

    def _claim(self, claims: Sequence[Change]) -> None:
        """Have the containers to ourselves; wait for another run that has one, unless we hold some."""
        while claims and (other := self._journal.claim(*claims)) is not None:
            if self._changes:
                raise QuiesceFailed(f"container {other.name} was started and is held by another run")
            if other in self._journal.changes and other.run not in self._journal.runs:
                recover(self._engine, self._journal)
            if self._cancel.wait(_WAIT_SECONDS):
                raise Interrupted(
                    f"waiting for container {other.name}, which another run holds, was cancelled"
                )
        self._changes += claims

    def _watch(self) -> None:
        watchdog = threading.Thread(target=self._expire, name="backupd-quiesce", daemon=True)
        watchdog.start()

    def _expire(self) -> None:
        if not self._over.wait(self._limit_seconds):
            self._expired.set()
            self._undo()

    def _record(self, *changes: Change) -> None:
        self._may_go_on()
        self._changes += changes
        self._journal.record(*changes)

    def _may_go_on(self) -> None:
        self.check()
        if self._cancel.is_set():
            raise Interrupted("calming the containers was cancelled")

    def _undo(self) -> None:
        """Undo all that was done, once, in whichever thread comes first; keep the first that went wrong."""
        with self._steps:
            self._over.set()
            if self._ending:
                return
            self._ending = True
            patience = Patience(hurried=self._cancel.is_set)
            done = []
            for change in reversed(self._changes):
                try:
                    self._undo_one(change, patience)
                    done.append(change)
                except BackupdError as error:
                    self._failure = self._failure or error
            self._forget(done)

    def _forget(self, done: Sequence[Change]) -> None:
        try:
            self._journal.erase(*done)
        except BackupdError as error:
            self._failure = self._failure or error
        finally:
            self._journal.runs.discard(self._run)

    def _undo_one(self, change: Change, patience: Patience) -> None:
        if change.action == "claim" or (self._kept and change.action == "stop"):
            return
        case = self._cases[change.container]
        undone = undo(self._engine, change, patience)
        case.end()
        case.warnings += undone.warnings
        self._degraded += undone.failed_hooks
        if undone.acted or undone.warnings or change.action == "hook":
            return
        if change.action == "stop" or case.ended is None:
            case.disturbed = True
            case.warnings.append(f"{case.name} was brought back by somebody else while the volume was read")

    def _judge(self) -> Report:
        known = {case.id for case in self._cases.values() if case.settled}
        intruders = tuple(
            patient.container
            for patient in self._look()
            if patient.container.state == "running" and patient.container.id not in known
        )
        held = [case for case in self._cases.values() if case.held]
        begun, ended = min((c.since for c in held), default=0.0), max((c.until for c in held), default=0.0)
        return Report(
            tuple(case.calmed() for case in self._cases.values()),
            seconds=max(ended - begun, 0.0),
            intruders=intruders,
            degraded=tuple(self._degraded),
            expired=self._expired.is_set(),
        )


def _sharing(engine: Engine) -> list[Sharing]:
    with door("list containers"):
        answers = engine.api.containers()
    return [
        Sharing(answer["Id"], answer["Names"][0].lstrip("/"), mode.removeprefix("container:"))
        for answer in answers
        if (mode := (answer.get("HostConfig") or {}).get("NetworkMode", "")).startswith("container:")
    ]
