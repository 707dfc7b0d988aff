"""Take a snapshot of a volume."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from backupd import __version__
from backupd.engine.discovery import survey
from backupd.engine.helper import TarOutput, TarResult, export
from backupd.engine.quiesce import quiesce
from backupd.errors import HelperFailed
from backupd.operations.collapse import collapsed_from, warning
from backupd.operations.context import Context
from backupd.operations.redact import conceal, redact
from backupd.progress import Progress
from backupd.repository.writer import Content
from backupd.snapshot import Compose, Consistency, Manifest, Quiesced, Tar, new_id
from backupd.volume import Container, Volume

NAMES_MAX = 10
"""A manifest names at most so many of the files that changed."""


def backup(
    context: Context,
    name: str,
    *,
    mode: str,
    exclude: Sequence[str] = (),
    progress: Progress,
    cancel: threading.Event,
) -> Manifest:
    """Save the volume of that name as a new snapshot and return its manifest.

    `mode` is `pause`: the containers that write to the volume stand still while tar reads, not longer; or
    `none`. When anything fails it raises and there is no snapshot; the containers run again in any case.
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
        reading = _Reading(context, volume, users, mode=mode, run=snapshot, exclude=exclude, cancel=cancel)
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
        users: Sequence[Container],
        *,
        mode: str,
        run: str,
        exclude: Sequence[str],
        cancel: threading.Event,
    ) -> None:
        self._context, self._volume = context, volume.name
        self._run, self._exclude, self._cancel = run, exclude, cancel
        self._mode = mode
        self._still = [user for user in users if user.writes(volume.name) and user.state == "paused"]
        self._writers = [user for user in users if user.writes(volume.name) and user.state == "running"]
        self._quiet, self._helper = ExitStack(), ExitStack()
        self._calmed: tuple[str, ...] = ()
        self._since = self._seconds = 0.0
        self._intruders: list[str] = []
        self._result = TarResult(exit_code=0, messages=())

    def __enter__(self) -> TarOutput:
        context = self._context
        with ExitStack() as undo:
            undo.callback(self._leave)
            if self._mode == "pause" and (self._writers or self._still):
                self._since = time.monotonic()
                # Those that stand still too: a backup of another volume may hold them, and let go too early.
                self._calmed = self._quiet.enter_context(
                    quiesce(context.engine, context.journal, (*self._writers, *self._still))
                )
            self._output = self._helper.enter_context(
                export(
                    context.engine,
                    self._volume,
                    context.image,
                    instance=context.instance,
                    run=self._run,
                    exclude=self._exclude,
                    fifo_dir=context.fifo_dir,
                    cancel=self._cancel,
                )
            )
            undo.pop_all()
        return self._output

    def __exit__(self, *_: object) -> None:
        self._leave()

    def end(self) -> None:
        """Wait for tar's verdict and let the containers go on; `HelperFailed` if a quiet volume changed."""
        self._result = self._output.finish()
        self._leave()
        held = [user for user in self._still if user.name in self._calmed]
        known = {user.id for user in (*self._writers, *held)}
        self._intruders = [
            user.name
            for user in survey(self._context.engine).users(self._volume)
            if user.writes(self._volume) and user.state == "running" and user.id not in known
        ]
        if self._result.exit_code and self.consistency != "fuzzy":
            raise HelperFailed(
                f"files of {self._volume} changed while they were read, though nothing that mounts it ran: "
                + "; ".join(self._result.messages[:NAMES_MAX]),
                hint="something outside the engine writes to the volume: stop it, or set quiesce to none",
            )

    @property
    def consistency(self) -> Consistency:
        """What can be said of the snapshot; known after `end`."""
        if self._intruders or (self._writers and self._mode != "pause"):
            return "fuzzy"
        return "crash-consistent" if self._writers or self._still else "clean-stop"

    @property
    def quiesced(self) -> Quiesced:
        """Who stood still and for how long; known after `end`."""
        return Quiesced(self._mode, self._calmed, round(self._seconds, 3))

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
        started = [f"{name} was started while the volume was read" for name in self._intruders]
        return (*words[:NAMES_MAX], *started)

    def _leave(self) -> None:
        # The containers first: removing the helper takes a tenth of a second that nobody needs to wait.
        with self._helper, self._quiet:
            pass
        if self._since:
            self._seconds, self._since = time.monotonic() - self._since, 0.0


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
