"""Put a snapshot back into a volume."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from backupd.engine.discovery import Survey, survey
from backupd.engine.helper import is_empty, wipe
from backupd.errors import BackupdError, EngineError, VolumeInUse
from backupd.operations.admit import Admission
from backupd.operations.backup import backup
from backupd.operations.context import Context
from backupd.operations.exchange import Exchange
from backupd.operations.filling import fill
from backupd.progress import Progress, silent
from backupd.snapshot import Manifest, new_id
from backupd.treatment import Treatment
from backupd.volume import Container, Volume

_ACTIVE = frozenset({"running", "paused", "restarting"})

Way = Literal["create", "fill", "exchange", "wipe"]
"""Into a volume that is made; into an empty one; in the place of what it holds, which stays until the new
content is proven; or where it holds something, removed first."""


@dataclass(frozen=True)
class RestorePlan:
    """What a restore will do; made before anything is touched, printed as a person reads it.

    `users` run and are stopped for it. `safe`: what the volume holds is saved first. `lossy`: the tar that is
    at hand cannot bring back all that was saved.
    """

    manifest: Manifest
    volume: Volume
    way: Way
    users: tuple[str, ...] = ()
    safe: bool = True
    lossy: bool = False

    @property
    def destroys(self) -> bool:
        """Whether what the volume holds now goes."""
        return self.way in ("exchange", "wipe")

    def __str__(self) -> str:
        manifest = self.manifest
        source = f"snapshot {manifest.snapshot} of {manifest.volume.name} on {manifest.host}"
        lines = [f"restore {source}", f"  {_deeds(self)}"]
        if self.users:
            lines.append(f"  stops {', '.join(self.users)}, and starts them again afterwards")
        if self.destroys:
            lines += [f"  {text}" for text in _losses(self)]
        if self.lossy:
            lines.append(
                "  note: only busybox tar is here: extended attributes, ACLs and holes will be missing"
            )
        if manifest.consistency == "fuzzy":
            lines.append("  note: the snapshot was taken while containers were writing (fuzzy)")
        lines += [f"  note: {warning}" for warning in manifest.warnings]
        return "\n".join(lines)


@dataclass(frozen=True)
class RestoreResult:
    """What a restore did; `saved` is the snapshot of what the volume held before, if it held anything."""

    manifest: Manifest
    volume: str
    created: bool
    saved: str | None
    seconds: float


@dataclass(frozen=True)
class Consent:
    """What may be done to a volume that holds files: `replace` or `wipe` them; `safe`: save them before."""

    replace: bool = False
    wipe: bool = False
    safe: bool = True


def plan(context: Context, manifest: Manifest, *, to: str | None, consent: Consent) -> RestorePlan:
    """Check all that can be checked before anything is touched, and say what a restore would do.

    The target is the snapshot's own volume, or the one named `to`. `VolumeInUse` where running containers use
    it, or where it holds files, without the `consent`; `ObjectDamaged` where chunks are missing; `KeyMissing`
    where there is no key to read it; `StreamRejected` where a member would reach outside.
    """
    target = to or manifest.volume.name
    reader = context.repository.reader(manifest)
    reader.check_readable()
    reader.check_present()
    admission = Admission(manifest.snapshot)
    for entry in reader.members():
        admission.admit(entry.path, entry.type, entry.target)
    seen = survey(context.engine)
    seen.check_not_own(target)
    lossy = context.image.tar != "gnu" and manifest.tar.kind == "gnu"
    existing = next((volume for volume in seen.volumes if volume.name == target), None)
    if existing is None:
        volume = _original(manifest, target, reader.concealed())
        return RestorePlan(manifest, volume, "create", lossy=lossy)
    users = _users(seen, target)
    _refuse_paused(seen, target)
    way = _way(context, target, users, consent)
    return RestorePlan(manifest, existing, way, users, safe=consent.safe, lossy=lossy)


def _way(context: Context, target: str, users: Sequence[str], consent: Consent) -> Way:
    if users and (consent.wipe or not consent.replace):
        names = " ".join(users)
        raise VolumeInUse(
            f"volume {target} is used by running containers: {names}",
            hint=f"stop them first: docker stop {names}"
            + ("" if consent.wipe else "; or let --replace stop them and start them again"),
        )
    if is_empty(
        context.engine, target, context.image, instance=context.instance, run=new_id(datetime.now(UTC))
    ):
        return "exchange" if users else "fill"
    if consent.wipe:
        return "wipe"
    if consent.replace:
        return "exchange"
    raise VolumeInUse(
        f"volume {target} holds files",
        hint="--replace saves them as a snapshot and puts the restored ones in their place; "
        "--to NEW restores beside it",
    )


def execute(
    context: Context, plan: RestorePlan, *, progress: Progress, cancel: threading.Event
) -> RestoreResult:
    """Do what the plan says. A volume that it creates is removed again if the restore fails."""
    begun = time.monotonic()
    name = plan.volume.name
    if plan.way == "exchange":
        exchange = Exchange(context, plan.manifest, name, plan.safe)
        saved = exchange.execute(progress=progress, cancel=cancel)
    else:
        saved = _fill(context, plan, progress=progress, cancel=cancel)
    created = plan.way == "create"
    return RestoreResult(plan.manifest, name, created, saved, time.monotonic() - begun)


def _fill(context: Context, plan: RestorePlan, *, progress: Progress, cancel: threading.Event) -> str | None:
    name = plan.volume.name
    if users := _users(survey(context.engine), name):
        raise VolumeInUse(f"volume {name} is used by {' '.join(users)}, started meanwhile", hint="try again")
    saved = None
    with ExitStack() as undo:
        if plan.way == "create":
            context.engine.create_volume(plan.volume)
            undo.callback(context.engine.remove_volume, name)
        if plan.way == "wipe":
            if plan.safe:
                saved = backup(context, name, treat=_pause, progress=silent, cancel=cancel).snapshot
            wipe(
                context.engine, name, context.image, instance=context.instance, run=new_id(datetime.now(UTC))
            )
        try:
            fill(context, plan.manifest, name, progress=progress, cancel=cancel)
        except BackupdError as error:
            if saved:
                error.hint = f"what {name} held: backupd restore {name} --snapshot {saved} --replace"
            raise
        undo.pop_all()
    return saved


def _pause(_volume: Volume, _container: Container) -> Treatment:
    """For a container that has been started since the volume was found to be unused."""
    return Treatment("pause")


def _users(seen: Survey, target: str) -> tuple[str, ...]:
    return tuple(sorted(user.name for user in seen.users(target) if user.state in _ACTIVE))


def _refuse_paused(seen: Survey, target: str) -> None:
    for user in seen.users(target):
        if user.state == "paused":
            raise VolumeInUse(
                f"volume {target} is used by container {user.name}, which is paused",
                hint=f"let it go on or stop it: docker unpause {user.name}; docker stop {user.name}",
            )


def _original(manifest: Manifest, target: str, concealed: Mapping[str, str]) -> Volume:
    lost = [name for name in manifest.redacted if name not in concealed]
    if secret := [name for name in lost if name.startswith("options.")]:
        raise EngineError(
            f"volume {target} cannot be created: the snapshot does not keep its secret {', '.join(secret)}",
            hint=f"docker volume create --driver {manifest.volume.driver} … {target}, then restore into it",
        )
    described = manifest.volume
    options = {name: concealed.get(f"options.{name}", value) for name, value in described.options.items()}
    labels = {
        name: concealed.get(f"labels.{name}", value)
        for name, value in described.labels.items()
        if f"labels.{name}" not in lost
    }
    return replace(described, name=target, options=options, labels=labels)


def _deeds(plan: RestorePlan) -> str:
    name, volume = plan.volume.name, plan.volume
    if plan.way == "create":
        return f"into a new volume {name} (driver {volume.driver}, with its options and labels)"
    return (
        f"into volume {name}, REPLACING ALL ITS FILES" if plan.destroys else f"into the empty volume {name}"
    )


def _losses(plan: RestorePlan) -> Iterator[str]:
    if plan.safe:
        yield "what the volume holds now is saved as a snapshot first"
    else:
        yield "what the volume holds now is LOST: it is not saved first"
    if plan.way == "wipe":
        yield "it is removed before the restored files are there: if that fails, the volume stays incomplete"
    else:
        yield "it stays in place until the restored files have proved to be the snapshot's, byte for byte"
