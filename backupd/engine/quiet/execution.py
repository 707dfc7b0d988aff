"""A command in a running container of the user's, with an end: it is over in time, or killed.

The engine cannot kill what it has started by exec. So the process carries a token in its environment, which
its children inherit, and a helper that sees the container's processes kills those that carry it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from docker.errors import NotFound

from backupd.engine.attachment import Execution
from backupd.engine.client import Engine
from backupd.engine.container import Task, run_to_end
from backupd.engine.door import door
from backupd.engine.messages import Messages
from backupd.engine.quiet.condition import condition
from backupd.errors import BackupdError, EngineError, QuiesceFailed
from backupd.treatment import Hook

TOKEN = "BACKUPD_HOOK"  # noqa: S105
"""The variable in the environment of a hook that says which hook it is."""

_LINES_MAX = 20
_LOOK_SECONDS = 0.5
_BUFFER_BYTES = 64 * 1024
# What was forked while the list was read is found in the next round.
_KILL = """
for round in 1 2 3 4 5; do
  for process in /proc/[0-9]*; do
    if tr '\\0' '\\n' <"$process/environ" 2>/dev/null | grep -qxF "$1"; then kill -9 "${process#/proc/}"; fi
  done
done
"""
_RIGHTS = ("DAC_READ_SEARCH", "KILL", "SYS_PTRACE")


class Hangman:
    """Who kills what is left of a hook: a helper of that image."""

    def __init__(self, engine: Engine, *, image: str, instance: str, run: str) -> None:
        self._engine, self.image = engine, image
        self._instance, self._run = instance, run

    def kill(self, container: str, token: str) -> None:
        """Kill every process in the running container that carries the token; `EngineError` if that fails."""
        task = Task(
            image=self.image,
            command=("sh", "-c", _KILL, "sh", f"{TOKEN}={token}"),
            volume=None,
            writes=False,
            capabilities=_RIGHTS,
            instance=self._instance,
            run=self._run,
            processes_of=container,
        )
        run_to_end(self._engine, task)


def new_token() -> str:
    """A token for the hooks of one container in one run."""
    return uuid.uuid4().hex


def execute(
    engine: Engine,
    container: str,
    what: str,
    hook: Hook,
    *,
    token: str,
    hangman: Hangman,
    check: Callable[[], None],
) -> None:
    """Run the hook in the container and wait for its end.

    `QuiesceFailed`, which begins with `what`, for an exit code that is not 0, with the last lines of output,
    and for one that takes too long: that is killed. `check` is called meanwhile;
    what it raises kills the hook too.
    """
    begun = _begin(engine, container, what, hook, token)
    said = Messages()
    try:
        code = _end(engine, begun, said, _until(hook, what, check))
    except BackupdError as error:
        raise _killed(engine, container, error, said, token, hangman) from error
    if code:
        raise QuiesceFailed(f"{what} ended with exit code {code}{_words(said)}")


def _until(hook: Hook, what: str, check: Callable[[], None]) -> Callable[[], None]:
    deadline = time.monotonic() + hook.timeout_seconds

    def look() -> None:
        check()
        if time.monotonic() > deadline:
            raise QuiesceFailed(f"{what} was not over after {hook.timeout_seconds:g} s and was killed")

    return look


def _begin(engine: Engine, container: str, what: str, hook: Hook, token: str) -> str:
    with door(f"start {what}"):
        made = engine.api.exec_create(
            container, list(hook.command), user=hook.user or "", environment=[f"{TOKEN}={token}"]
        )
    return str(made["Id"])


def _end(engine: Engine, execution: str, said: Messages, check: Callable[[], None]) -> int:
    """Start it, read what it says, and wait for its end; its exit code.

    Output may last longer than the process, where that leaves a child behind: the process counts.
    """
    output = Execution(engine, execution)
    try:
        seen = _Ended(engine, execution, check)
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        try:
            while size := output.readinto(buffer, said.add, seen.look):
                said.add(buffer[:size].tobytes())
                check()
        except _Over:
            pass
        while (code := _exit_code(engine, execution)) is None:
            check()
            time.sleep(0.02)
        return code
    finally:
        output.close()


class _Over(Exception):
    """The process has ended, whoever may still hold its output."""


class _Ended:
    def __init__(self, engine: Engine, execution: str, check: Callable[[], None]) -> None:
        self._engine, self._execution, self._check = engine, execution, check
        self._next = time.monotonic() + _LOOK_SECONDS

    def look(self) -> None:
        self._check()
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LOOK_SECONDS
        if _exit_code(self._engine, self._execution) is not None:
            raise _Over


def _exit_code(engine: Engine, execution: str) -> int | None:
    """None while it runs; an execution that the engine has forgotten went with its container."""
    with door("look after a hook"):
        try:
            found = engine.api.exec_inspect(execution)
        except NotFound:
            raise QuiesceFailed("the container ended while a hook ran in it") from None
    return None if found["Running"] or found["ExitCode"] is None else int(found["ExitCode"])


def _killed(
    engine: Engine, container: str, error: BackupdError, said: Messages, token: str, hangman: Hangman
) -> BackupdError:
    try:
        found = condition(engine, container, "of a hook")
        if found is not None and found.running:
            hangman.kill(container, token)
    except EngineError as failure:
        return QuiesceFailed(
            f"{error.message}, but may still run: {failure.message}{_words(said)}",
            hint="look with `docker top`, and kill it on the engine's host",
        )
    return type(error)(f"{error.message}{_words(said)}", hint=error.hint)


def _words(said: Messages) -> str:
    lines = said.lines[-_LINES_MAX:]
    return ": " + "; ".join(lines) if lines else ""
