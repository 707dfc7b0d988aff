"""`backupd compose` and `backupd docker`: what would take volumes away first has them saved."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from backupd.engine.client import Engine
from backupd.engine.discovery import Survey, survey
from backupd.engine.memory import identity
from backupd.engine.revive import Alive, alive, revive
from backupd.errors import BackupdError, Interrupted, VolumeNotFound
from backupd.gate.installation import Places, allow
from backupd.guard.argv import Command
from backupd.guard.plan import Item, Plan, plan
from backupd.guard.real import FORCE, Docker
from backupd.guard.saving import preflight
from backupd.guard.service import known
from backupd.ledger import Ledger
from backupd.operations.context import Context
from backupd.operations.hold import Released, release
from backupd.operations.preflight import Verdict
from backupd.repository import Repository
from backupd.settings import Settings
from backupd.wiring import Say


class Guarded:
    """One command that may take volumes away, from the plan to the way back."""

    def __init__(
        self, command: Command, settings: Settings, engine: Engine, say: Say, cancel: threading.Event
    ) -> None:
        self._command, self._settings, self._engine = command, settings, engine
        self._say, self._cancel = say, cancel
        self._docker, self._ledger = Docker(command), Ledger(settings.state_dir)
        self._check_engine()
        self.project = self._docker.project(os.environ)
        self.plan = self._look()

    def check(self, *, forced: bool) -> None:
        """Raise where a volume may not go whatever is saved; `forced` ones may, but for backupd's own."""
        if own := self.plan.of("own"):
            raise BackupdError(
                f"{_reasons(own)}: it is not removed",
                hint="if you mean it, stop backupd and use docker itself",
            )
        if not forced and (unknown := self.plan.of("unknown")):
            raise BackupdError(_reasons(unknown), hint="correct the labels or the settings")

    def save(self, context: Context) -> dict[str, Verdict]:
        """Stop the services, save what is to be saved and read it back; what it came to.

        Where anything fails, or is cancelled, it raises, and what ran before runs again.
        """
        before = alive(self._engine, self.project.name) if self.project else ()
        with ExitStack() as undo:
            if self._command.services is not None and before:
                undo.callback(self._revive, before)
                self._stop()
            self._check_cancelled()
            ready = preflight(lambda: self._settings, context, (self._ledger,), self._say, self._cancel)
            verdicts = ready(item.protection for item in self.plan.of("save"))
            self._check_cancelled()
            if failed := [verdict for verdict in verdicts.values() if not verdict.ok]:
                raise BackupdError(
                    "; ".join(f"volume {each.volume} could not be saved: {each.reason}" for each in failed),
                    hint=next((each.hint for each in failed if each.hint), None),
                )
            self._check_still()
            undo.pop_all()
        for verdict in verdicts.values():
            self._say(f"  {verdict.volume}: {_told(verdict)}")
        return verdicts

    def _stop(self) -> None:
        """Stop the services; that containers vanish meanwhile, since somebody else takes it down, is fine."""
        try:
            self._docker.stop()
        except BackupdError:
            if self._command.services != ("--",) or (self.project and alive(self._engine, self.project.name)):
                raise

    def run(self) -> int:
        """Let go of what is held, and run the command; its exit code."""
        with self._released():
            return self._docker.run()

    def give_up(self) -> None:
        """Say what goes unsaved although it should not, and have the gate let it go, where there is one."""
        names = [item.volume for item in self.plan.of("save", "unknown")]
        if not names:
            return
        self._say(f"{FORCE}: what {', '.join(names)} hold since their last snapshot is lost for good")
        places = Places()
        if places.gate.exists():
            allow(places, names)

    def way_back(self, verdicts: dict[str, Verdict], repository: Repository) -> str:
        """How to get back what went, as a person reads it; docker has run, so it does not raise."""
        try:
            return self._way_back(verdicts, repository)
        except BackupdError as error:
            saved = [f"{each.volume}: {each.snapshot}" for each in verdicts.values() if each.snapshot]
            return f"{error.message}; what was saved: {', '.join(saved)}"

    def _way_back(self, verdicts: dict[str, Verdict], repository: Repository) -> str:
        there = {volume.name for volume in survey(self._engine).volumes}
        gone = sorted(name for name, each in verdicts.items() if each.snapshot and name not in there)
        lines = [f"volume {name} is still there" for name in sorted(there.intersection(verdicts))]
        if gone:
            lines.append("to get it all back:")
            lines += [f"  {words}" for words in self._restores(gone, there, repository)]
        return "\n".join(lines)

    def _restores(self, gone: Sequence[str], there: set[str], repository: Repository) -> Iterator[str]:
        """The commands that restore these volumes: for a project at once, where it has no others."""
        left = set(gone)
        projects = {item.protection.volume.project for item in self.plan.items if item.volume in left}
        for project in sorted(name for name in projects if name):
            saved = {
                each.volume.name
                for each in repository.snapshots(self._settings.host)
                if each.volume.project == project
            }
            if saved and not saved & there:
                left -= saved
                yield f"backupd restore --project {project}"
        yield from (f"backupd restore {volume}" for volume in sorted(left))

    def _check_engine(self) -> None:
        theirs, ours = self._docker.engine(), identity(self._engine)
        if theirs != ours:
            raise BackupdError(
                f"docker talks to another engine (data in {theirs[1]}) than backupd (data in {ours[1]})",
                hint="set docker_host, and a host name of its own (host), for that engine",
            )

    def _look(self) -> Plan:
        seen = survey(self._engine)
        self._check_listed(seen)
        return plan(self._command.removal, seen, known(self._settings, seen, self._ledger), self.project)

    def _check_listed(self, seen: Survey) -> None:
        """Raise where a volume that is named is there although the engine does not list it."""
        listed = {volume.name for volume in seen.volumes}
        named = self._command.removal.names | (self.project.volumes if self.project else frozenset())
        for name in sorted(named - listed):
            try:
                self._engine.volume(name)
            except VolumeNotFound:
                continue
            raise BackupdError(f"the engine has volume {name} and does not list it", hint="try again")

    def _check_still(self) -> None:
        """Raise unless everything that would go now is in the plan, with the same fate."""
        now = self._look()
        planned = {item.volume: item.fate for item in self.plan.items}
        if changed := [item.volume for item in now.items if planned.get(item.volume) != item.fate]:
            raise BackupdError(
                f"{', '.join(changed)}: not what it was when this began", hint="run the command again"
            )

    def _check_cancelled(self) -> None:
        if self._cancel.is_set():
            raise Interrupted("interrupted, nothing was removed")

    def _revive(self, before: tuple[Alive, ...]) -> None:
        if names := revive(self._engine, before):
            self._say(f"running again: {', '.join(names)}")

    @contextmanager
    def _released(self) -> Iterator[None]:
        """What is held can go meanwhile; what is there afterwards is held again."""
        held = [item.volume for item in self.plan.items if item.held]
        state_dir = self._settings.state_dir
        try:
            for name in held:
                try:
                    release(self._engine, name, state_dir=state_dir)
                except VolumeNotFound:
                    continue
            yield
        finally:
            for name in held:
                Released(state_dir).forget(name)


def _reasons(items: Sequence[Item]) -> str:
    return "; ".join(f"volume {item.volume}: {item.why}" for item in items)


def _told(verdict: Verdict) -> str:
    if verdict.snapshot is None:
        return verdict.note or "not saved"
    proof = f"not read back ({verdict.note})" if verdict.note else "read back whole"
    return f"snapshot {verdict.snapshot}, {proof}"
