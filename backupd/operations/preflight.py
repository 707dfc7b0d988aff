"""Before volumes go: each is saved, and what was stored is read back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import structlog

from backupd.engine.client import Engine
from backupd.engine.memory import untouched_since
from backupd.errors import BackupdError, Locked, VolumeNotFound
from backupd.operations.context import Context
from backupd.operations.lock import await_volume
from backupd.protection import Protection
from backupd.repository import Repository
from backupd.snapshot import Manifest

log = structlog.get_logger(__name__)

_AT_ONCE = 4


@dataclass(frozen=True)
class Verdict:
    """Whether a volume may go: `ok`, with the `snapshot` that has what it holds, if it was to be saved.

    Where it may not, `reason` and `hint` say why. `note` says why it may although it was not saved.
    """

    volume: str
    ok: bool
    snapshot: str | None = None
    reason: str | None = None
    hint: str | None = None
    note: str | None = None

    def as_json(self) -> dict[str, object]:
        """The same, as those who ask over a socket get it."""
        return {
            "ok": self.ok,
            "snapshot": self.snapshot,
            "reason": self.reason,
            "hint": self.hint,
            "note": self.note,
        }


class Preflight:
    """Saves volumes that are about to go, one that is asked for twice at once a single time.

    `renewed` gives a context of its own to each. `save` takes a snapshot of one volume and returns the
    manifest, or raises. Any thread may ask.
    """

    def __init__(
        self,
        renewed: Callable[[], AbstractContextManager[Context]],
        save: Callable[[Protection], Manifest],
        *,
        state_dir: Path,
        cancel: threading.Event,
    ) -> None:
        self._renewed, self._save = renewed, save
        self._state_dir, self._cancel = state_dir, cancel
        self._lock = threading.Lock()
        self._flights: dict[str, Future[Verdict]] = {}

    def __call__(self, protections: Iterable[Protection]) -> dict[str, Verdict]:
        """Save the volumes, and say of each whether it may go; returns when all are done."""
        found = {each.volume.name: each for each in protections}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="preflight") as pool:
            return dict(zip(found, pool.map(self._judge, found.values()), strict=True))

    def _judge(self, protection: Protection) -> Verdict:
        name = protection.volume.name
        while True:
            with self._lock:
                flight = self._flights.get(name)
                if flight is None:
                    own = self._flights[name] = Future()
            if flight is None:
                return self._fly(protection, own)
            # Who comes later may have written something since: it looks for itself, at what is there by then.
            if not (verdict := flight.result()).ok:
                return verdict

    def _fly(self, protection: Protection, flight: Future[Verdict]) -> Verdict:
        name = protection.volume.name
        verdict = Verdict(name, ok=False, reason=f"volume {name} could not be saved: an error in backupd")
        try:
            verdict = self._saved(protection)
        finally:
            with self._lock:
                del self._flights[name]
            flight.set_result(verdict)
        return verdict

    def _saved(self, protection: Protection) -> Verdict:
        name = protection.volume.name
        try:
            manifest = self._snapshot(protection)
            with self._renewed() as context:
                note = prove(context.repository, manifest, self._cancel)
        except VolumeNotFound:
            return Verdict(name, ok=True, note="it is gone already")
        except BackupdError as error:
            return Verdict(name, ok=False, reason=error.message, hint=error.hint)
        log.info("volume may go", volume=name, snapshot=manifest.snapshot, note=note)
        return Verdict(name, ok=True, snapshot=manifest.snapshot, note=note)

    def _snapshot(self, protection: Protection) -> Manifest:
        """A snapshot of what the volume holds now: the newest, or a new one."""
        name = protection.volume.name
        while True:
            await_volume(self._state_dir, name, self._cancel)
            with self._renewed() as context:
                context.engine.volume(name)
                newest = reusable(context, name)
            try:
                return newest or self._save(protection)
            except Locked:
                continue  # somebody was faster


def reusable(context: Context, volume: str) -> Manifest | None:
    """The newest snapshot of the volume, if nobody can have written to it since; else None."""
    newest = context.repository.latest(context.host, volume)
    if newest is None or newest.outcome != "ok" or newest.consistency != "clean-stop":
        return None
    return newest if _untouched(context.engine, newest) else None


def prove(repository: Repository, manifest: Manifest, cancel: threading.Event) -> str | None:
    """Read a snapshot back as a restore would, and check every hash; what could not be read, if anything.

    Raises the error that a restore would end with. Without the key to an encrypted repository the chunks are
    only looked for.
    """
    stored = repository.find(manifest.volume.name, manifest.snapshot, host=manifest.host)
    reader = repository.reader(stored)
    reader.check_present()
    if not repository.readable:
        return "encrypted: that every chunk is there was checked, reading them takes the identity"
    for _ in reader.members():
        pass
    for _ in reader.stream(cancel):
        pass
    return None


def _untouched(engine: Engine, manifest: Manifest) -> bool:
    return untouched_since(engine, manifest.volume.name, manifest.snapshot)
