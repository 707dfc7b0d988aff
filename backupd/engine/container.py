"""The life of one helper container: made, attached to, started, judged, removed."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from docker.errors import APIError, NotFound
from docker.types import LogConfig, Mount

from backupd.engine import labels
from backupd.engine.attachment import Attachment, Check
from backupd.engine.client import Engine
from backupd.engine.door import door, explanation
from backupd.engine.journal import PROCESS
from backupd.engine.messages import Messages
from backupd.engine.mount import existing_volume, made_by_accident
from backupd.errors import EngineError, HelperFailed, VolumeNotFound

VOLUME_PATH = "/volume"
PIDS = 16
EXIT_SECONDS = 60
"""How long after the end of its output a container may take to have ended."""

_OUTPUT_BYTES = 64 * 1024
_REMOVALS = 3


@dataclass(frozen=True)
class Task:
    """What a helper is to do. `command[0]` becomes its process 1, without a shell around it."""

    image: str
    command: tuple[str, ...]
    volume: str | None
    writes: bool
    capabilities: tuple[str, ...]
    instance: str
    run: str
    mounts: tuple[Mount, ...] = ()
    stdin: bool = False
    processes_of: str | None = None
    """The id of a container whose processes the helper sees."""

    @property
    def what(self) -> str:
        """What a person would call the helper."""
        return f"helper of volume {self.volume}" if self.volume else f"helper of image {self.image}"


@dataclass(frozen=True)
class TarResult:
    """How tar ended: 0, or 1 where files changed while they were read; and the last of what it said."""

    exit_code: int
    messages: tuple[str, ...]


class HelperContainer:
    """A helper from its creation to its removal; `ended` is set when its output has ended."""

    def __init__(self, engine: Engine, task: Task) -> None:
        self._engine = engine
        self._task = task
        self._messages = Messages()
        self._listener: threading.Thread | None = None
        self.ended = threading.Event()
        self.output = bytearray()
        self._name = _name(task)
        self._memory_bytes = engine.limits.memory_bytes
        engine.helpers.add(self._name)
        try:
            self.id = _create(engine, task, self._name)
            try:
                self.attachment = Attachment(engine, self.id)
            except BaseException:
                remove(engine, self.id)
                raise
        except BaseException:
            engine.helpers.discard(self._name)
            raise

    def start(self) -> None:
        """Let it run."""
        with door(f"start the {self._task.what}"):
            self._engine.api.start(self.id)

    def listen(self) -> None:
        """Collect what it says in the background; without that, call `readinto` until it returns 0."""
        self._listener = threading.Thread(target=self._listen, name="backupd-helper", daemon=True)
        self._listener.start()

    def readinto(self, buffer: memoryview, check: Check) -> int:
        """Bytes of its standard output; 0 when it has ended."""
        size = self.attachment.readinto(buffer, self._messages.add, check)
        if size == 0:
            self.ended.set()
        return size

    def result(self, check: Check, *, worst: int) -> TarResult:
        """Wait for its end; `HelperFailed` with its last words if it ended with more than `worst`."""
        while not self.ended.wait(0.25):
            check()
        with door(f"wait for the end of the {self._task.what}"):
            code: int = self._engine.api.wait(self.id, timeout=EXIT_SECONDS)["StatusCode"]
            state = self._engine.api.inspect_container(self.id)["State"]
        said = self._messages.lines
        if state.get("OOMKilled"):
            raise HelperFailed(
                f"{self._task.what} ran out of memory ({self._memory_bytes >> 20} MiB)",
                hint="raise helper.memory",
            )
        reason = _reason(code, worst=worst)
        if reason is None:
            return TarResult(code, said)
        own = [line for line in said if line.startswith(f"{self._task.command[0]}: ")]
        words = "; ".join((own or said)[-3:]) or state.get("Error") or "it said nothing"
        raise HelperFailed(f"{self._task.what} {reason}: {words}", hint=_hint(words))

    def remove(self) -> None:
        """Make it go, running or not; afterwards nothing of it holds the volume.

        The connection goes first: the engine waits for output that nobody takes before a container has ended.
        """
        self.attachment.hang_up()
        try:
            remove(self._engine, self.id)
        finally:
            self._engine.helpers.discard(self._name)
            if self._listener is not None:
                self._listener.join()
            self.attachment.close()

    def _listen(self) -> None:
        buffer = memoryview(bytearray(_OUTPUT_BYTES))
        try:
            while size := self.readinto(buffer, _never):
                room = _OUTPUT_BYTES - len(self.output)
                self.output += buffer[: min(size, room)]
        except EngineError as error:
            self._messages.add(f"\n{error.message}\n".encode())
        finally:
            self.ended.set()


@contextmanager
def container(engine: Engine, task: Task) -> Iterator[HelperContainer]:
    """A helper that is removed when the context is left, whatever happened."""
    helper = HelperContainer(engine, task)
    try:
        yield helper
    finally:
        helper.remove()


def run_to_end(engine: Engine, task: Task) -> bytes:
    """Run a helper to its end; the first 64 KiB that it printed. `HelperFailed` if it failed."""
    with container(engine, task) as helper:
        helper.listen()
        helper.start()
        helper.result(_never, worst=0)
        return bytes(helper.output)


def _create(engine: Engine, task: Task, name: str) -> str:
    mounts = list(task.mounts)
    if task.volume is not None:
        mounts.append(existing_volume(engine, task.volume, VOLUME_PATH, read_only=not task.writes))
    with door(f"create the {task.what}"):
        try:
            made = _created(engine, task, name, mounts)
        except APIError as error:
            if task.volume is not None:
                engine.volume(task.volume)
            raise HelperFailed(f"cannot create the {task.what}: {explanation(error)}") from error
    if task.volume is not None and made_by_accident(engine, task.volume):
        remove(engine, made)
        engine.remove_volume(task.volume)
        raise VolumeNotFound(f"volume {task.volume} was deleted in the meantime")
    return made


def _created(engine: Engine, task: Task, name: str, mounts: list[Mount]) -> str:
    api, limits = engine.api, engine.limits
    made = api.create_container(
        task.image,
        list(task.command[1:]),
        entrypoint=[task.command[0]],
        name=name,
        user="0:0",
        working_dir="/",
        network_disabled=True,
        stdin_open=task.stdin,
        environment={"LC_ALL": "C", "TAR_OPTIONS": ""},
        labels={
            labels.HELPER: "true",
            labels.INSTANCE: task.instance,
            labels.RUN: task.run,
            labels.PROCESS: PROCESS,
        },
        healthcheck={"test": ["NONE"]},
        use_config_proxy=False,
        host_config=api.create_host_config(
            mounts=mounts,
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            cap_add=list(task.capabilities),
            # label=disable: SELinux would keep the helper from volumes and FIFOs of other containers
            # apparmor=unconfined: and from processes that have another profile
            security_opt=[
                "no-new-privileges",
                "label=disable",
                *(["apparmor=unconfined"] if task.processes_of else ()),
            ],
            # process 1 must be tar itself: GNU tar writes its process id into names of sparse members
            init=False,
            pid_mode=f"container:{task.processes_of}" if task.processes_of else None,
            log_config=LogConfig(type="none", config={}),
            mem_limit=limits.memory_bytes,
            memswap_limit=limits.memory_bytes,
            pids_limit=PIDS,
            cpu_shares=limits.cpu_shares,
            blkio_weight=limits.io_weight,
        ),
    )
    return str(made["Id"])


def _name(task: Task) -> str:
    words = ("backupd", (task.volume or "image")[:100], task.run[-8:], secrets.token_hex(3))
    return re.sub(r"[^a-zA-Z0-9_.-]", "-", "-".join(word for word in words if word))


def remove(engine: Engine, container: str) -> None:
    """Make a helper go, running or not; one that is gone already is no error."""
    for attempt in range(1, _REMOVALS + 1):
        try:
            with door(f"remove the helper container {container[:12]}"):
                try:
                    engine.api.remove_container(container, v=True, force=True)
                except NotFound:
                    return
                return
        except EngineError:
            if attempt == _REMOVALS:
                raise


def _reason(code: int, *, worst: int) -> str | None:
    if code > 128:
        return f"was killed by signal {code - 128}"
    if code > worst:
        return f"ended with exit code {code}"
    return None


def _hint(words: str) -> str | None:
    if "No space left on device" in words or "Wrote only" in words:
        return "make room on the disk of the volume"
    return None


def _never() -> None:
    """For who waits without end: closing the attachment ends it."""
