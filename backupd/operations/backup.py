"""Take a snapshot of a volume."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from backupd import __version__
from backupd.engine.discovery import survey, writers
from backupd.engine.helper import TarOutput, TarResult, export
from backupd.engine.quiesce import Patient, Quiesce, Report
from backupd.errors import HelperFailed
from backupd.operations.collapse import collapsed_from, warning
from backupd.operations.context import Context
from backupd.operations.redact import conceal, redact
from backupd.progress import Progress
from backupd.repository.writer import Content
from backupd.snapshot import Compose, Consistency, Manifest, Quiesced, Tar, new_id
from backupd.treatment import Treatment
from backupd.volume import Container, Volume

NAMES_MAX = 10
"""A manifest names at most so many of the files that changed."""


def backup(
    context: Context,
    name: str,
    *,
    treat: Callable[[Volume, Container], Treatment],
    exclude: Sequence[str] = (),
    progress: Progress,
    cancel: threading.Event,
) -> Manifest:
    """Save the volume of that name as a new snapshot and return its manifest.

    `treat` says how a container that writes to the volume is calmed while tar reads, and not longer. When
    anything fails it raises and there is no snapshot; the containers run again in any case.
    """
    started = datetime.now(UTC)
    seen = survey(context.engine)
    volume, users = seen.volume(name), seen.users(name)
    seen.check_not_own(name)
    snapshot = new_id(started)
    parent = context.repository.latest_id(context.host, name)
    kept, redacted, concealed = _withheld(volume, encrypted=context.repository.encrypted)
    earlier = context.repository.last_good(context.host, name, before=snapshot)
    with context.repository.begin(host=context.host, volume=name, snapshot=snapshot) as writer:
        reading = _Reading(context, volume, treat, run=snapshot, exclude=exclude, cancel=cancel)
        with reading as source:
            content = writer.store(
                source, concealed=concealed, at_end=reading.end, progress=progress, cancel=cancel
            )
        lost = collapsed_from(content.members, content.bytes.content, earlier)
        manifest = Manifest(
            snapshot=snapshot,
            host=context.host,
            volume=kept,
            started=started,
            finished=datetime.now(UTC),
            consistency=reading.consistency,
            quiesced=reading.quiesced,
            tar=Tar(context.image.tar, context.image.version, context.image.flags),
            members=content.members,
            bytes=content.bytes,
            chunks=content.chunks,
            sidecars=content.sidecars,
            outcome="fuzzy" if reading.changed else "ok",
            tool=f"backupd {__version__}",
            compose=_compose(volume, users),
            parent=parent,
            skipped=reading.sockets,
            redacted=redacted,
            warnings=(
                *reading.warnings(named=not context.repository.encrypted),
                *_losses(context),
                *_collapse(name, content, lost),
            ),
            collapsed_from=lost.snapshot if lost else None,
            encrypted=context.repository.encrypted,
        )
        writer.commit(manifest)
    return manifest


class _Reading:
    """A volume's tar stream, and the quiet around it; both end with `end`, or with the context."""

    def __init__(
        self,
        context: Context,
        volume: Volume,
        treat: Callable[[Volume, Container], Treatment],
        *,
        run: str,
        exclude: Sequence[str],
        cancel: threading.Event,
    ) -> None:
        self._context, self._volume, self._treat = context, volume, treat
        self._run, self._exclude, self._cancel = run, exclude, cancel
        self._undo = ExitStack()
        self._result = TarResult(exit_code=0, messages=())
        self._report = Report((), 0.0)

    def __enter__(self) -> TarOutput:
        context = self._context
        self._quiet = Quiesce(
            context.engine,
            context.journal,
            self._look,
            image=context.image,
            instance=context.instance,
            limit_seconds=context.quiesce_limit_seconds,
            cancel=self._cancel,
        )
        with ExitStack() as stack:
            self._output = stack.enter_context(
                export(
                    context.engine,
                    self._volume.name,
                    context.image,
                    instance=context.instance,
                    run=self._run,
                    exclude=self._exclude,
                    fifo_dir=context.fifo_dir,
                    cancel=self._cancel,
                    check=self._quiet.check,
                )
            )
            stack.enter_context(self._quiet)
            self._output.begin()
            self._undo = stack.pop_all()
        return self._output

    def __exit__(self, *error: Any) -> None:
        self._undo.__exit__(*error)

    def end(self) -> None:
        """Wait for tar's verdict and let the containers go on; `HelperFailed` if a quiet volume changed."""
        self._result = self._output.finish()
        self._quiet.check()
        self._report = self._quiet.end()
        if self._result.exit_code and self._report.still(self._volume.name):
            raise HelperFailed(
                f"files of {self._volume.name} changed while it was read, though nobody that mounts it ran: "
                + "; ".join(self._result.messages[:NAMES_MAX]),
                hint="something outside the engine writes to the volume: stop it, or set quiesce to none",
            )

    @property
    def consistency(self) -> Consistency:
        """What can be said of the snapshot; known after `end`."""
        return "fuzzy" if self.changed else self._report.consistency(self._volume.name)

    @property
    def quiesced(self) -> Quiesced:
        """Who stood still and for how long; known after `end`."""
        return self._report.quiesced(self._volume.name)

    @property
    def changed(self) -> bool:
        """Whether tar saw files change while it read them."""
        return bool(self._result.exit_code)

    @property
    def sockets(self) -> int:
        """How many sockets tar left out."""
        return sum(message.endswith("socket ignored") for message in self._result.messages)

    def warnings(self, *, named: bool) -> tuple[str, ...]:
        """What a person should know about the reading; `named`: files that changed by name."""
        words = [message for message in self._result.messages if not message.endswith("socket ignored")]
        if words and not named:
            words = [f"tar had {len(words)} messages, which name files and are not kept"]
        return (*words[:NAMES_MAX], *self._report.warnings(self._volume.name))

    def _look(self) -> tuple[Patient, ...]:
        found = writers(self._context.engine, {self._volume.name})
        return tuple(Patient(container, self._treat(self._volume, container)) for container in found)


def _withheld(volume: Volume, *, encrypted: bool) -> tuple[Volume, tuple[str, ...], Mapping[str, str] | None]:
    """The volume for the manifest, what is left out of it by name, and the values for the index."""
    if not encrypted:
        return (*redact(volume), None)
    kept, concealed = conceal(volume)
    return kept, tuple(concealed), concealed


def _compose(volume: Volume, users: Sequence[Container]) -> Compose | None:
    services = {user.service for user in users if user.service and user.project == volume.project}
    return Compose(volume.project, tuple(sorted(services))) if volume.project else None


def _collapse(volume: str, content: Content, lost: Manifest | None) -> tuple[str, ...]:
    return (warning(volume, content.members, content.bytes.content, lost),) if lost else ()


def _losses(context: Context) -> tuple[str, ...]:
    if context.image.tar == "gnu":
        return ()
    return ("busybox tar read the volume: extended attributes, ACLs, capabilities and holes are not kept",)
