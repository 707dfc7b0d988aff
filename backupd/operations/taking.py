"""Take the snapshot of one volume of a window."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from backupd import __version__
from backupd.engine.discovery import Survey
from backupd.engine.helper import TarResult, export
from backupd.operations.collapse import collapsed_from, warning
from backupd.operations.context import Context
from backupd.operations.quiet import Part, Quiet
from backupd.operations.reading import Reading, Stillness, Verdict
from backupd.operations.redact import conceal, redact
from backupd.progress import Progress
from backupd.repository.writer import Content, SnapshotWriter
from backupd.snapshot import Compose, Manifest, Tar, Window, new_id
from backupd.volume import Container, Volume


@dataclass(frozen=True)
class Wish:
    """A volume that is to be saved, and how: `mode` is `pause` or `none`, `exclude` are patterns of tar.

    `context` is for this volume alone: a storage that has failed one volume must not fail another.
    """

    context: Context
    volume: str
    mode: str
    exclude: tuple[str, ...]
    progress: Progress


@dataclass(frozen=True)
class Shared:
    """What the volumes of one window have in common; `readers` of them read at once, each in a slot."""

    run: str
    volumes: tuple[str, ...]
    seen: Survey
    quiet: Quiet[Reading, Stillness]
    readers: int
    slots: threading.Semaphore
    cancel: threading.Event


def take(wish: Wish, shared: Shared) -> Manifest:
    """Save one volume of a window as a new snapshot and return its manifest.

    When anything fails it raises and there is no snapshot. Whatever happens, the quiet does not wait for it.
    """
    with shared.quiet.part() as part:
        work = _Taking(wish, shared)
        with wish.context.repository.begin(
            host=wish.context.host, volume=wish.volume, snapshot=work.snapshot
        ) as writer:
            content, result = work.read(part, writer)
            verdict = work.reading.judge(result, part.over(), named=not wish.context.repository.encrypted)
            manifest = work.manifest(content, verdict)
            writer.commit(manifest)
    return manifest


class _Taking:
    def __init__(self, wish: Wish, shared: Shared) -> None:
        repository, host = wish.context.repository, wish.context.host
        self._wish, self._shared = wish, shared
        self._started = datetime.now(UTC)
        self.snapshot = new_id(self._started)
        shared.seen.check_not_own(wish.volume)
        self.reading = Reading(shared.seen.volume(wish.volume), shared.seen.users(wish.volume), wish.mode)
        self._parent = repository.latest_id(host, wish.volume)
        self._earlier = repository.last_good(host, wish.volume, before=self.snapshot)
        self._kept, self._redacted, self._concealed = _withheld(
            self.reading.volume, encrypted=repository.encrypted
        )

    def read(self, part: Part[Reading, Stillness], writer: SnapshotWriter) -> tuple[Content, TarResult]:
        """Store what is in the volume once the quiet has begun, which waits for tar and no longer."""
        context, shared = self._wish.context, self._shared
        with export(
            context.engine,
            self._wish.volume,
            context.image,
            instance=context.instance,
            run=self.snapshot,
            exclude=self._wish.exclude,
            fifo_dir=context.fifo_dir,
            cancel=shared.cancel,
        ) as output:
            part.ready(self.reading)
            with shared.slots:

                def end() -> None:
                    output.finish()
                    part.done()

                content = writer.store(
                    output,
                    concealed=self._concealed,
                    at_end=end,
                    progress=self._wish.progress,
                    cancel=shared.cancel,
                    readers=shared.readers,
                )
            return content, output.finish()

    def manifest(self, content: Content, verdict: Verdict) -> Manifest:
        """What is said of the snapshot."""
        context, image, volume = self._wish.context, self._wish.context.image, self.reading.volume
        lost = collapsed_from(content.members, content.bytes.content, self._earlier)
        return Manifest(
            snapshot=self.snapshot,
            host=context.host,
            volume=self._kept,
            started=self._started,
            finished=datetime.now(UTC),
            consistency=verdict.consistency,
            quiesced=verdict.quiesced,
            tar=Tar(image.tar, image.version, image.flags),
            members=content.members,
            bytes=content.bytes,
            chunks=content.chunks,
            sidecars=content.sidecars,
            outcome="fuzzy" if verdict.changed else "ok",
            tool=f"backupd {__version__}",
            compose=_compose(volume, self.reading.users),
            parent=self._parent,
            skipped=verdict.sockets,
            redacted=self._redacted,
            warnings=(
                *verdict.warnings,
                *_losses(context),
                *_collapse(volume.name, content, lost),
            ),
            collapsed_from=lost.snapshot if lost else None,
            encrypted=context.repository.encrypted,
            window=self._window(verdict),
        )

    def _window(self, verdict: Verdict) -> Window | None:
        """What says that the snapshot belongs to others; None where the volume was read alone."""
        shared = self._shared
        if len(shared.volumes) == 1:
            return None
        return Window(shared.run, shared.volumes, verdict.began, verdict.ended)


def _withheld(volume: Volume, *, encrypted: bool) -> tuple[Volume, tuple[str, ...], Mapping[str, str] | None]:
    """The volume for the manifest, what is left out of it by name, and the values for the index."""
    if not encrypted:
        return (*redact(volume), None)
    kept, concealed = conceal(volume)
    return kept, tuple(concealed), concealed


def _compose(volume: Volume, users: tuple[Container, ...]) -> Compose | None:
    services = {user.service for user in users if user.service and user.project == volume.project}
    return Compose(volume.project, tuple(sorted(services))) if volume.project else None


def _collapse(volume: str, content: Content, lost: Manifest | None) -> tuple[str, ...]:
    return (warning(volume, content.members, content.bytes.content, lost),) if lost else ()


def _losses(context: Context) -> tuple[str, ...]:
    if context.image.tar == "gnu":
        return ()
    return ("busybox tar read the volume: extended attributes, ACLs, capabilities and holes are not kept",)
