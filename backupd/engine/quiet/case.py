"""One container in one window: how it was, and what has become of it so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from backupd.engine.journal import Change
from backupd.engine.quiet.condition import Condition
from backupd.engine.quiet.report import Calmed
from backupd.snapshot import Consistency
from backupd.treatment import Treatment
from backupd.volume import Container

KILLED = 137
"""The exit code of what SIGKILL ended."""


@dataclass
class Case:
    """`claim` is what the journal knows it by; `before` is how it was before anything was done to it."""

    container: Container
    treatment: Treatment
    before: Condition
    claim: Change
    hooked: bool = False
    stopped: bool = False
    held: bool = False
    disturbed: bool = False
    ended: Condition | None = None
    since: float = 0.0
    until: float = 0.0
    warnings: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The container's id."""
        return self.container.id

    @property
    def name(self) -> str:
        """The container's name."""
        return self.container.name

    @property
    def wants_hooks(self) -> bool:
        """Whether there are hooks to run; in a container that does not run there are none."""
        return self.before.works and bool(self.treatment.pre or self.treatment.post)

    @property
    def settled(self) -> bool:
        """Whether nothing remains to be found out: it was running, or paused, and has been dealt with."""
        return self.before.works or self.before.paused or self.held

    def begin(self) -> None:
        """From now on it does not do its work."""
        self.held = True
        self.since = self.since or time.monotonic()

    def end(self) -> None:
        """Now it is back at work."""
        self.until = time.monotonic()

    def calmed(self) -> Calmed:
        """What can be said of it."""
        unclean = self.stopped and self.ended and not self.ended.ended_well
        return Calmed(
            self.container,
            self.treatment,
            self._consistency(),
            held=self.held,
            still=not self.disturbed and (not self.before.works or self.treatment.mode != "none"),
            seconds=max(self.until - self.since, 0.0) if self.held else 0.0,
            exit_code=self.ended.exit_code if self.ended else None,
            warnings=(*((self._unclean(self.ended),) if unclean and self.ended else ()), *self.warnings),
        )

    def _unclean(self, ended: Condition) -> str:
        if ended.exit_code == KILLED:
            return (
                f"{self.name} did not stop in {self.before.stop_seconds} s and was killed: no clean shutdown"
            )
        return f"{self.name} ended with exit code {ended.exit_code} when it was stopped: no clean shutdown"

    def _consistency(self) -> Consistency:
        if self.disturbed:
            return "fuzzy"
        if self.ended is not None or not self.before.running:
            ended = self.ended or self.before
            return "clean-stop" if ended.ended_well else "crash-consistent"
        if self.hooked:
            return "hooks"
        if self.before.paused or self.before.restarting or self.held:
            return "crash-consistent"
        return "fuzzy"
