"""Put a snapshot back into a volume."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from backupd.engine.discovery import Survey, survey
from backupd.engine.helper import extract, is_empty, wipe
from backupd.errors import BackupdError, EngineError, VolumeInUse
from backupd.operations.admit import Admission, admitted
from backupd.operations.backup import backup
from backupd.operations.context import Context
from backupd.progress import Progress, Tally, silent
from backupd.snapshot import Manifest, new_id
from backupd.treatment import Treatment
from backupd.volume import Container, Volume

_ACTIVE = frozenset({"running", "paused", "restarting"})


@dataclass(frozen=True)
class RestorePlan:
    """What a restore will do; made before anything is touched, printed as a person reads it."""

    manifest: Manifest
    volume: Volume
    exists: bool
    empty: bool

    def __str__(self) -> str:
        manifest = self.manifest
        source = f"snapshot {manifest.snapshot} of {manifest.volume.name} on {manifest.host}"
        lines = [f"restore {source}", f"  {_deeds(self)}"]
        if not self.empty:
            lines.append("  what the volume holds now is saved as a snapshot first, then removed")
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


def plan(context: Context, manifest: Manifest, *, to: str | None, replace_content: bool) -> RestorePlan:
    """Check all that can be checked before anything is touched, and say what a restore would do.

    The target is the snapshot's own volume, or the one named `to`. `VolumeInUse` where running containers use
    it, or where it holds files and `replace_content` is false; `ObjectDamaged` where chunks are missing;
    `KeyMissing` where there is no key to read it; `StreamRejected` where a member would reach outside.
    """
    target = to or manifest.volume.name
    reader = context.repository.reader(manifest)
    reader.check_readable()
    reader.check_present()
    admission = Admission(manifest.snapshot)
    for entry in reader.members():
        admission.admit(entry.path, entry.type, entry.target)
    seen = survey(context.engine)
    existing = next((volume for volume in seen.volumes if volume.name == target), None)
    if existing is None:
        volume = _original(manifest, target, reader.concealed())
        return RestorePlan(manifest, volume, exists=False, empty=True)
    _check_unused(seen, target)
    empty = is_empty(
        context.engine, target, context.image, instance=context.instance, run=new_id(datetime.now(UTC))
    )
    if not empty and not replace_content:
        raise VolumeInUse(
            f"volume {target} holds files",
            hint="--replace saves them as a snapshot and puts the restored ones in their place; "
            "--to NEW restores beside it",
        )
    return RestorePlan(manifest, existing, exists=True, empty=empty)


def execute(
    context: Context, plan: RestorePlan, *, progress: Progress, cancel: threading.Event
) -> RestoreResult:
    """Do what the plan says. A volume that it creates is removed again if the restore fails."""
    begun = time.monotonic()
    name = plan.volume.name
    _check_unused(survey(context.engine), name)
    saved = None
    with ExitStack() as undo:
        if not plan.exists:
            context.engine.create_volume(plan.volume)
            undo.callback(context.engine.remove_volume, name)
        run = new_id(datetime.now(UTC))
        if not plan.empty:
            saved = backup(context, name, treat=_pause, progress=silent, cancel=cancel).snapshot
            wipe(context.engine, name, context.image, instance=context.instance, run=run)
        try:
            _extract(context, plan, run, progress=progress, cancel=cancel)
        except BackupdError as error:
            if saved:
                error.hint = f"what {name} held: backupd restore {name} --snapshot {saved} --replace"
            raise
        undo.pop_all()
    return RestoreResult(plan.manifest, name, not plan.exists, saved, time.monotonic() - begun)


def _pause(_volume: Volume, _container: Container) -> Treatment:
    """For a container that has been started since the volume was found to be unused."""
    return Treatment("pause")


def _extract(
    context: Context, plan: RestorePlan, run: str, *, progress: Progress, cancel: threading.Event
) -> None:
    done, total = 0, plan.manifest.bytes.tar
    with extract(
        context.engine,
        plan.volume.name,
        context.image,
        instance=context.instance,
        run=run,
        fifo_dir=context.fifo_dir,
        cancel=cancel,
    ) as tar:
        stream = context.repository.reader(plan.manifest).stream(cancel)
        for content in admitted(stream, Admission(plan.manifest.snapshot)):
            tar.write(content)
            done += len(content)
            progress(Tally(done, bytes_total=total))
        tar.finish()


def _check_unused(seen: Survey, target: str) -> None:
    seen.check_not_own(target)
    users = [user for user in seen.users(target) if user.state in _ACTIVE]
    if users:
        names = " ".join(sorted(user.name for user in users))
        raise VolumeInUse(
            f"volume {target} is used by running containers: {names}",
            hint=f"stop them first: docker stop {names}",
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
    if not plan.exists:
        return f"into a new volume {name} (driver {volume.driver}, with its options and labels)"
    return f"into the empty volume {name}" if plan.empty else f"into volume {name}, REPLACING ALL ITS FILES"
