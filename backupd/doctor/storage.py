"""The storage, and the repository on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from backupd.doctor.finding import Finding, bad, good, note
from backupd.repository import Repository
from backupd.settings import Settings
from backupd.storage.location import advice
from backupd.storage.trial import trial

SKEW_SECONDS = 60.0
LEAST_FREE = 0.1


def examine(settings: Settings, repository: Repository, engine_directory: Path | None) -> Iterator[Finding]:
    """That it is a repository of ours, and that the storage stores, lists, reads and deletes."""
    storage = repository.storage
    kind = "an encrypted repository" if repository.encrypted else "a repository, not encrypted,"
    yield good("repository", f"{storage.location} is {kind} of format 1 (id {repository.id})")
    if not repository.readable:
        yield note(
            "repository",
            "this machine writes to it and cannot read it: it cannot restore",
            "where you restore, set encryption.identity_file",
        )
    tried = trial(storage)
    yield good(
        "storage",
        f"64 KiB are put in {_ms(tried.put_seconds)}, listed in {_ms(tried.list_seconds)},"
        f" read in {_ms(tried.get_seconds)}",
    )
    if not tried.deletes:
        yield note(
            "storage",
            "nothing can be deleted with the keys that are set",
            "right for a machine that only writes; forget and prune from one that may delete",
        )
    if abs(tried.ahead_seconds) > SKEW_SECONDS:
        yield bad(
            "clock",
            f"the storage's clock and this one differ by {abs(tried.ahead_seconds):.0f} s",
            "let this machine follow a time server: S3 refuses requests that are 15 min off",
        )
    yield from (note("storage", text) for text in advice(settings.storage, settings.s3.options))
    if not settings.storage.startswith("s3:"):
        yield from _disk(Path(storage.location), engine_directory)


def _disk(directory: Path, engine_directory: Path | None) -> Iterator[Finding]:
    usage = shutil.disk_usage(directory)
    free = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.1f} GB are free"
    if usage.free < LEAST_FREE * usage.total:
        yield note("storage", free, "keep less (retention), prune, or use a larger disk")
    else:
        yield good("storage", free)
    if engine_directory and _device(directory) == _device(engine_directory):
        yield note(
            "storage",
            "the repository lies on the disk that the volumes lie on, and dies with it",
            "use another disk or S3, or copy the repository elsewhere",
        )


def _device(path: Path) -> int | None:
    try:
        return path.stat().st_dev
    except OSError:
        return None


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
