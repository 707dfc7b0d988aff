"""The image that helpers are made of."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from docker.errors import NotFound

from backupd.engine.client import Engine
from backupd.engine.container import Task, run_to_end
from backupd.engine.door import door
from backupd.engine.own import own_container
from backupd.errors import EngineError, EngineUnreachable, HelperImageUnavailable

PLAIN = "alpine:3.22"
RECIPE = resources.files("backupd.engine").joinpath("helper.Dockerfile").read_bytes()
_TAR = re.compile(r"tar \((GNU tar|busybox)\) (\S+)")
SILENCE_SECONDS = 180
"""How long a build may go on without a word."""


@dataclass(frozen=True)
class HelperImage:
    """An image with a tar in it: how the engine knows it, which tar, and what that says of its version."""

    reference: str
    tar: Literal["gnu", "busybox"]
    version: str

    @property
    def flags(self) -> tuple[str, ...]:
        """What tar is told, so that the stream is a function of the tree."""
        return CREATE_FLAGS[self.tar]


def helper_image(
    engine: Engine,
    configured: str | None,
    say: Callable[[str], None],
    *,
    instance: str,
    memory: Path | None = None,
) -> HelperImage:
    """The image to use: the configured one; else the first to be had of Alpine with GNU tar, built on the
    engine, backupd's own, where it runs in a container, and plain Alpine.

    `say` is told what takes long and what went wrong on the way. Cheap once the image is there, so ask before
    each run: images get pruned. `memory` is a directory where it is kept which tar an image has: to find out
    takes a container, a quarter of a second. Raises `HelperImageUnavailable`.
    """
    if configured is not None:
        _fetch(engine, configured, say)
        return _described(engine, configured, instance, memory)
    built = f"backupd-helper:{hashlib.sha256(RECIPE).hexdigest()[:12]}"
    reasons = []
    try:
        _build(engine, built, say)
        return _described(engine, built, instance, memory)
    except HelperImageUnavailable as error:
        reasons.append(error.message)
    if own := own_container(engine):
        say("helpers are made of backupd's own image")
        return _described(engine, own.image, instance, memory)
    try:
        _fetch(engine, PLAIN, say)
        return _described(engine, PLAIN, instance, memory)
    except HelperImageUnavailable as error:
        reasons.append(error.message)
    raise HelperImageUnavailable(
        f"no helper image can be had: {'; '.join(reasons)}",
        hint=f"let the engine reach its registry, load {PLAIN} into it, or set helper.image",
    )


def _fetch(engine: Engine, reference: str, say: Callable[[str], None]) -> None:
    """Have the image on the engine, pulled if need be."""
    if _present(engine, reference):
        return
    say(f"pulling the image {reference}")
    try:
        with door(f"pull the image {reference}"):
            _follow(engine.api.pull(reference, stream=True, decode=True), f"pull the image {reference}")
    except EngineUnreachable:
        raise
    except EngineError as error:
        raise _unavailable(error.message, reference) from error


def _build(engine: Engine, tag: str, say: Callable[[str], None]) -> None:
    """Have the image on the engine, built if need be."""
    if _present(engine, tag):
        return
    say(f"building the helper image {tag}, once")
    try:
        with door(f"build the helper image {tag}"):
            progress = engine.api.build(
                fileobj=io.BytesIO(RECIPE),
                tag=tag,
                rm=True,
                forcerm=True,
                decode=True,
                timeout=SILENCE_SECONDS,
            )
            _follow(progress, f"build the helper image {tag}")
    except EngineError as error:
        if _present(engine, tag):
            return  # another process has built it meanwhile
        say(error.message)
        raise _unavailable(error.message, tag) from error


def _present(engine: Engine, reference: str) -> bool:
    with door(f"inspect the image {reference}"):
        try:
            engine.api.inspect_image(reference)  # type: ignore[no-untyped-call]
        except NotFound:
            return False
    return True


def _follow(progress: Iterable[Mapping[str, Any]], action: str) -> None:
    """Wait for the end of a pull or build; its errors come as lines of progress."""
    for line in progress:
        if "error" in line:
            raise EngineError(f"cannot {action}: {str(line['error']).strip()}")


def _described(engine: Engine, reference: str, instance: str, memory: Path | None) -> HelperImage:
    with door(f"inspect the image {reference}"):
        identity: str = engine.api.inspect_image(reference)["Id"]  # type: ignore[no-untyped-call]
    # An image's id is a hash of what is in it: what was once found in it stays true.
    note = memory / f"tar-{identity.removeprefix('sha256:')}" if memory else None
    if known := _recalled(note):
        return _parsed(reference, known)
    said = _said_by_tar(engine, reference, instance)
    if note:
        _remember(note, said)
    return _parsed(reference, said)


def _recalled(note: Path | None) -> str | None:
    try:
        said = note.read_text(encoding="utf-8") if note else ""
    except (OSError, ValueError):
        return None
    return said if _TAR.match(said) else None


def _remember(note: Path, said: str) -> None:
    own = note.with_name(f"{note.name}.{os.getpid()}.{threading.get_ident()}")
    # Without a memory it is only slower.
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(said, encoding="utf-8")
        own.replace(note)


def _said_by_tar(engine: Engine, reference: str, instance: str) -> str:
    """What `tar --version` says in that image, on its first line."""
    task = Task(
        image=reference,
        command=("tar", "--version"),
        volume=None,
        writes=False,
        capabilities=(),
        instance=instance,
        run="",
    )
    try:
        return run_to_end(engine, task).decode(errors="replace").partition("\n")[0]
    except EngineUnreachable:
        raise
    except EngineError as error:
        raise _unavailable(
            f"the image {reference} has no tar that runs: {error.message}", reference
        ) from error


def _parsed(reference: str, said: str) -> HelperImage:
    found = _TAR.match(said)
    if found is None:
        raise _unavailable(f"the image {reference} has a tar that is neither GNU's nor busybox's", reference)
    return HelperImage(reference, "gnu" if found[1] == "GNU tar" else "busybox", found[2])


def _unavailable(message: str, reference: str) -> HelperImageUnavailable:
    return HelperImageUnavailable(
        message, hint=f"load {reference} into the engine, or set helper.image to an image with GNU tar"
    )


CREATE_FLAGS: dict[str, tuple[str, ...]] = {
    "gnu": (
        "--create",
        "--format=posix",
        "--sort=name",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--sparse",
        "--hole-detection=raw",
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
        "--blocking-factor=512",
        "--force-local",
    ),
    "busybox": ("-c", "--numeric-owner"),
}
EXTRACT_FLAGS: dict[str, tuple[str, ...]] = {
    "gnu": (
        "--extract",
        "--preserve-permissions",
        "--same-owner",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--delay-directory-restore",
        "--blocking-factor=512",
        # A pipe hands over less than a record at a time; without this tar takes that for a damaged archive.
        "--read-full-records",
        "--force-local",
    ),
    "busybox": ("-x", "-p", "--numeric-owner"),
}
