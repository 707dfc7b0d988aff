"""A helper whose tar waits at a FIFO until somebody opens the other end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from backupd.engine.attachment import Check
from backupd.engine.client import Engine
from backupd.engine.container import HelperContainer, Task, container
from backupd.engine.fifo import Meeting, Opening, meeting
from backupd.errors import EngineError


class Held:
    """Such a helper. tar opens its archive before it looks at anything: while it waits it reads nothing."""

    def __init__(self, helper: HelperContainer, fifo: Meeting, leave: Callable[[], None]) -> None:
        """`leave` removes the helper and the FIFO."""
        self.helper = helper
        self._fifo, self._leave = fifo, leave
        self._runs: bool | None = None

    def start(self) -> bool:
        """Let tar come to the FIFO, unless it has been started; whether it could be."""
        if self._runs is None:
            self.helper.listen()
            try:
                self.helper.start()
                self._runs = True
            except EngineError:
                self._runs = False
                self._leave()
        return self._runs

    def meet(self, flags: int, check: Check) -> int | None:
        """Our end of the FIFO, at which tar goes on; None where they do not meet, for whatever reason.

        Then the helper is removed. The reason, if it is not the FIFO, shows again in the next transport.
        """
        if not self.start():
            return None
        opening = Opening(self._fifo.path, flags)
        try:
            descriptor = opening.wait(self.helper.ended, check)
        finally:
            opening.abandon()
        if descriptor is None:
            self._leave()
        return descriptor


def held_at_fifo(
    stack: ExitStack, engine: Engine, directory: Path | None, task: Callable[[Meeting], Task]
) -> Held | None:
    """A helper that will wait at a FIFO in `directory`, not started yet; None where there can be no such."""
    own = stack.enter_context(ExitStack())
    try:
        fifo = own.enter_context(meeting(engine, directory))
        if fifo is None:
            return None
        helper = own.enter_context(container(engine, task(fifo)))
    except EngineError:
        own.close()
        return None
    return Held(helper, fifo, own.close)
