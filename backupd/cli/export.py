"""`backupd export`."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from backupd.cli.output import speak
from backupd.cli.progress import cancellable, shown
from backupd.errors import BackupdError, UsageError
from backupd.opening import opened
from backupd.operations.export import export
from backupd.settings import Settings


def run(arguments: Namespace, settings: Settings) -> int:
    """Write a snapshot, or a part of it, to a file or to standard output."""
    if arguments.output == "-" and sys.stdout.isatty():
        raise UsageError(
            "this would write binary data to the terminal",
            hint="give a file with -o FILE, or pipe it: … | tar tv",
        )
    speak(settings)
    cancel = threading.Event()
    with opened(settings, cancel) as repository:
        manifest = repository.find(None, arguments.snapshot)
        with (
            cancellable(cancel),
            _target(arguments.output) as out,
            shown(manifest.snapshot) as progress,
        ):
            export(repository, manifest, arguments.path, out, progress=progress, cancel=cancel)
    return 0


@contextmanager
def _target(output: str) -> Iterator[BinaryIO]:
    """Standard output, or a file that appears under its name only when it is whole."""
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = Path(f"{output}.part")
    try:
        with part.open("xb") as file:
            try:
                yield file
                file.flush()
                part.replace(output)
            finally:
                part.unlink(missing_ok=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        hint = "another export writes it, or one was killed: remove it" if part.exists() else None
        raise BackupdError(
            f"cannot write {output}: {error.strerror} ({error.filename})", hint=hint
        ) from error
