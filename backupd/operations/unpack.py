"""Put chosen members of a snapshot into a directory of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from backupd.errors import BackupdError, UsageError
from backupd.operations.admit import Admission, admitted
from backupd.operations.parts import Selection, chosen
from backupd.progress import Progress, Tally
from backupd.repository.reader import SnapshotReader

_SAID_BYTES = 4096
_PLAIN = ("-x", "-p", "-f", "-")
_GNU = ("--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "--delay-directory-restore")


@dataclass(frozen=True)
class Unpacked:
    """How much is there now; `owners_kept` only where root did it."""

    members: int
    size_bytes: int
    owners_kept: bool


def unpack(
    reader: SnapshotReader,
    selection: Selection,
    directory: Path,
    *,
    progress: Progress,
    cancel: threading.Event,
) -> Unpacked:
    """Extract the chosen members below `directory`, which is made, or is there and empty.

    This machine's tar does it. When it fails, what was extracted so far stays to be looked at, and is said.
    """
    _check(directory)
    done = 0
    with _tar(directory) as tar:
        stream = chosen(reader, selection, cancel)
        for content in admitted(stream, Admission(reader.manifest.snapshot)):
            tar.write(content)
            done += len(content)
            progress(Tally(done, bytes_total=None))
    return Unpacked(selection.members, selection.size_bytes, owners_kept=os.geteuid() == 0)


def _check(directory: Path) -> None:
    # A link in a directory that holds something could lead tar elsewhere.
    try:
        directory.mkdir(parents=True, exist_ok=True)
        taken = any(directory.iterdir())
    except OSError as error:
        raise BackupdError(
            f"cannot use {directory}: {error.strerror}", hint="choose another directory: --output DIR"
        ) from error
    if taken:
        raise UsageError(f"{directory} is not empty", hint="choose a new directory: --output DIR")


@contextmanager
def _tar(directory: Path) -> Iterator[IO[bytes]]:
    """The standard input of a tar that extracts there; `BackupdError` with its words if it fails."""
    program = shutil.which("tar")
    if program is None:
        raise BackupdError(
            "there is no tar on this machine",
            hint="one file needs none: `backupd export SNAPSHOT PATH -o FILE`",
        )
    with tempfile.TemporaryFile() as said:
        command = (program, *_PLAIN, *(_GNU if _is_gnu(program) else ()), "-C", str(directory))
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said)
        entry = cast(IO[bytes], process.stdin)
        try:
            yield entry
        except BrokenPipeError:
            pass  # its exit code and its words tell more
        except BaseException:
            process.kill()
            raise
        finally:
            with suppress(BrokenPipeError):
                entry.close()
            process.wait()
        if process.returncode:
            said.seek(0)
            words = (
                said.read(_SAID_BYTES).decode(errors="replace").strip() or f"exit code {process.returncode}"
            )
            raise BackupdError(
                f"tar could not extract all of it into {directory}: {words}",
                hint="what it did extract is there; mend the cause, and choose a new directory",
            )


def _is_gnu(program: str) -> bool:
    done = subprocess.run((program, "--version"), capture_output=True, check=False)
    return b"GNU tar" in done.stdout
