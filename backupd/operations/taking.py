"""Take the snapshot of one volume of a window."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from backupd import __version__
from backupd.engine.discovery import Survey
from backupd.engine.helper import TarResult, export
from backupd.operations.collapse import collapsed_from, warning
from backupd.operations.context import Context
from backupd.operations.quiet import Part, Quiet
from backupd.operations.reading import Stillness, Verdict, judge
from backupd.operations.redact import conceal, redact
from backupd.progress import Progress
from backupd.repository.writer import Content, SnapshotWriter
from backupd.snapshot import Compose, Manifest, Tar, Window, new_id
from backupd.treatment import Treatment
from backupd.volume import Container, Volume

Treat = Callable[[Volume, Container], Treatment]
"""How a container that writes to a volume is calmed for it."""


@dataclass(frozen=True)
class Wish:
    """A volume that is to be saved, and how; `exclude` are patterns of tar.

    `context` is for this volume alone: a storage that has failed one volume must not fail another.
    """

    context: Context
    volume: str
    treat: Treat
    exclude: tuple[str, ...]
    progress: Progress


@dataclass(frozen=True)
class Subject:
    """A volume that is ready to be read."""

    volume: Volume
    treat: Treat


@dataclass(frozen=True)
class Shared:
    """What the volumes of one window have in common; `readers` of them read at once, each in a slot.

    `check` raises once the containers have been let go before their time.
    """

    run: str
    volumes: tuple[str, ...]
    seen: Survey
    quiet: Quiet[Subject, Stillness]
    check: Callable[[], None]
    readers: int
    slots: threading.Semaphore
    cancel: threading.Event


@dataclass(frozen=True)
class Taken:
    """A snapshot; and post hooks that failed after it: it is good, the application may not be."""

    manifest: Manifest
    degraded: tuple[str, ...] = ()


def take(wish: Wish, shared: Shared) -> Taken:
    """Save one volume of a window as a new snapshot.

    When anything fails it raises and there is no snapshot. Whatever happens, the quiet does not wait for it.
    """
    with shared.quiet.part() as part:
        work = _Taking(wish, shared)
        with wish.context.repository.begin(
            host=wish.context.host, volume=wish.volume, snapshot=work.snapshot
        ) as writer:
            content, result = work.read(part, writer)
            named = not wish.context.repository.encrypted
            verdict = judge(work.volume, result, part.over(), named=named)
            manifest = work.manifest(content, verdict)
            writer.commit(manifest)
    return Taken(manifest, verdict.degraded)


class _Taking:
    def __init__(self, wish: Wish, shared: Shared) -> None:
        repository, host = wish.context.repository, wish.context.host
        self._wish, self._shared = wish, shared
        self._started = datetime.now(UTC)
        self.snapshot = new_id(self._started)
        self.volume = shared.seen.volume(wish.volume)
        shared.seen.check_not_own(wish.volume)
        self._parent = repository.latest_id(host, wish.volume)
        self._earlier = repository.last_good(host, wish.volume, before=self.snapshot)
        self._kept, self._redacted, self._concealed = _withheld(self.volume, encrypted=repository.encrypted)

    def read(self, part: Part[Subject, Stillness], writer: SnapshotWriter) -> tuple[Content, TarResult]:
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
            check=shared.check,
        ) as output:
            part.ready(Subject(self.volume, self._wish.treat))
            with shared.slots:
                phase = "reading"

                def end() -> None:
                    nonlocal phase
                    output.finish()
                    shared.check()
                    part.done()
                    phase = "storing"

                content = writer.store(
                    output,
                    concealed=self._concealed,
                    at_end=end,
                    progress=lambda tally: self._wish.progress(replace(tally, phase=phase)),
                    cancel=shared.cancel,
                    readers=shared.readers,
                )
            return content, output.finish()

    def manifest(self, content: Content, verdict: Verdict) -> Manifest:
        """What is said of the snapshot."""
        context, image, volume = self._wish.context, self._wish.context.image, self.volume
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
            compose=_compose(volume, self._shared.seen.users(volume.name)),
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
