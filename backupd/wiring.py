"""From settings to what operations work with."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import tzinfo
from pathlib import Path

from backupd.cron import Schedule, parse
from backupd.engine.client import Engine
from backupd.engine.discovery import Survey, own_volume
from backupd.engine.image import HelperImage, helper_image
from backupd.engine.journal import Journal
from backupd.engine.quiesce import recover
from backupd.engine.reap import reap
from backupd.errors import BackupdError, QuiesceFailed
from backupd.group import groups
from backupd.health import Watched
from backupd.opening import opened, rate, zone
from backupd.operations.context import Context
from backupd.operations.unfinished import finish, notes
from backupd.protection import Protection, resolve
from backupd.settings import Settings
from backupd.volume import Volume

Say = Callable[[str], None]


@contextmanager
def connected(settings: Settings) -> Iterator[Engine]:
    """The engine of the settings, for as long as the context."""
    with closing(Engine.connect(settings.docker_host)) as engine:
        limit(settings, engine)
        yield engine


def limit(settings: Settings, engine: Engine) -> None:
    """Let helpers take no more than the settings say."""
    engine.limits = settings.helper.limits
    engine.reading = rate("read", settings.limits.read) if settings.limits.read else None


@contextmanager
def assembled(settings: Settings, engine: Engine, say: Say, cancel: threading.Event) -> Iterator[Context]:
    """All that a run needs, found out before anything of the user's is touched.

    First what runs that were killed have left behind is put right, whatever fails then.
    """
    with closing(Journal(settings.state_dir / "journal")) as journal:
        instance = instance_name(settings)
        put_right(settings, engine, journal, say)
        with opened(settings, cancel) as repository:
            yield Context(
                engine=engine,
                repository=repository,
                journal=journal,
                image=_image(settings, engine, instance, say),
                host=settings.host,
                instance=instance,
                state_dir=settings.state_dir,
                fifo_dir=settings.fifo_dir,
                quiesce_limit_seconds=settings.quiesce.limit.total_seconds(),
            )


@contextmanager
def renewed(settings: Settings, context: Context, say: Say, cancel: threading.Event) -> Iterator[Context]:
    """The context with what may have gone bad meanwhile made anew: storage and helper image."""
    with opened(settings, cancel) as repository:
        image = _image(settings, context.engine, context.instance, say)
        yield replace(context, repository=repository, image=image)


def protections(settings: Settings, seen: Survey) -> tuple[Protection, ...]:
    """What the labels and the settings say of every volume; for backupd's own, protection is an error."""
    return tuple(protection(settings, seen, volume) for volume in seen.volumes)


def protection(settings: Settings, seen: Survey, volume: Volume) -> Protection:
    """The same of one volume."""
    found = resolve(
        volume,
        seen.users(volume.name),
        settings.rules,
        settings.defaults,
        everything=settings.protect == "all",
    )
    if found.policy is not None and volume.name in seen.own_volumes:
        return replace(found, policy=None, errors=(own_volume(volume.name).message,))
    return found


def watched(settings: Settings, found: Sequence[Protection]) -> list[Watched]:
    """Whom health judges by which times: what is protected, and what cannot be."""
    good = [
        Watched(
            each.volume.name,
            schedule(settings, group.seed, group.schedule),
            ping=each.policy.ping if each.policy else None,
        )
        for group in groups(found)
        for each in group.members
    ]
    return good + [Watched(each.volume.name, None, each.errors) for each in found if each.errors]


def put_right(settings: Settings, engine: Engine, journal: Journal, say: Say) -> QuiesceFailed | None:
    """Undo what runs that were killed have left behind, and nothing of what still goes on.

    Restores are finished before anybody is woken: nobody may use a volume whose content is being exchanged.
    Returns, and says, what keeps a container from waking.
    """
    for name in reap(engine, instance_name(settings), journal):
        say(f"helper {name} of a run that was killed is removed")
    _finish_restores(settings, engine, journal, say)
    try:
        for name in recover(engine, journal):
            say(f"container {name} was held by a run that was killed, and goes on now")
    except QuiesceFailed as error:
        # One container that does not wake must not keep every volume from being saved.
        say(f"{error.message}; {error.hint}")
        return error
    return None


def schedule(settings: Settings, seed: str, expression: str) -> Schedule:
    """The times of a cron expression for the volume or group whose name is the seed."""
    return parse(expression, seed=seed, jitter=settings.jitter)


def found_image(settings: Settings, engine: Engine, say: Say) -> HelperImage:
    """The image that helpers are made of, had and tried; `HelperImageUnavailable`."""
    return _image(settings, engine, instance_name(settings), say)


def _image(settings: Settings, engine: Engine, instance: str, say: Say) -> HelperImage:
    cache = settings.state_dir / "cache"
    return helper_image(engine, settings.helper.image, say, instance=instance, memory=cache)


def forget_in(settings: Settings) -> tzinfo | None:
    """The time zone in which a backup applies its volume's retention; None where it does not."""
    return zone(settings) if settings.forget.after_backup else None


def instance_name(settings: Settings) -> str:
    """The name of this installation."""
    return settings.instance or _instance(settings.state_dir)


def _instance(state_dir: Path) -> str:
    """The name of this installation, made up once: a host's name may change, or be shared by two."""
    path = state_dir / "instance"
    name = f"backupd-{uuid.uuid4().hex[:12]}"
    own = path.with_name(name)
    try:
        if not path.exists():
            own.write_text(name, encoding="utf-8")
            with suppress(FileExistsError):
                path.hardlink_to(own)
            own.unlink()
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BackupdError(
            f"cannot use {path}: {error.strerror}", hint="look at the state directory"
        ) from error


def _finish_restores(settings: Settings, engine: Engine, journal: Journal, say: Say) -> None:
    left = notes(settings.state_dir)
    if left:
        image, instance = found_image(settings, engine, say), instance_name(settings)
        for text in finish(left, engine, journal, image, instance=instance, state_dir=settings.state_dir):
            say(text)
