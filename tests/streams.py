"""Tar streams made for tests, and a source to read them from."""

from __future__ import annotations

import io
import random
import tarfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from backupd.progress import silent
from backupd.repository import Repository
from backupd.snapshot import Manifest, Quiesced, Tar, new_id
from backupd.volume import Volume


def tar_of(files: Mapping[str, bytes], *, kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar stream of regular files, sorted by name, with odd names as they come."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind, errors="surrogateescape") as tar:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            member.mtime = 1_700_000_000
            tar.addfile(member, io.BytesIO(files[name]))
    return out.getvalue()


def noise(size: int, *, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


class BytesSource:
    """A source that hands out a stream in pieces of at most `piece` bytes."""

    def __init__(self, stream: bytes, *, piece: int = 1024 * 1024) -> None:
        self._rest = memoryview(stream)
        self._piece = piece

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of `buffer`; 0 at the end."""
        count = min(len(buffer), len(self._rest), self._piece)
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def save(
    repository: Repository,
    stream: bytes,
    *,
    host: str = "host",
    volume: str = "data",
    snapshot: str | None = None,
    piece: int = 1024 * 1024,
    concealed: Mapping[str, str] | None = None,
    **facts: Any,
) -> Manifest:
    """Save a tar stream as a snapshot, as a backup does, without an engine; `facts` are the manifest's."""
    now = datetime.now(UTC)
    snapshot = snapshot or new_id(now)
    with repository.begin(host=host, volume=volume, snapshot=snapshot) as writer:
        content = writer.store(
            BytesSource(stream, piece=piece),
            concealed=concealed,
            at_end=lambda: None,
            progress=silent,
            cancel=threading.Event(),
        )
        manifest = Manifest(
            snapshot=snapshot,
            host=host,
            volume=Volume(volume, "local", {}, {}),
            started=now,
            finished=datetime.now(UTC),
            consistency="clean-stop",
            quiesced=Quiesced("none"),
            tar=Tar("gnu", "1.34"),
            members=content.members,
            bytes=content.bytes,
            chunks=content.chunks,
            sidecars=content.sidecars,
            outcome="ok",
            tool="backupd test",
            encrypted=repository.encrypted,
        )
        manifest = replace(manifest, **facts)
        writer.commit(manifest)
    return manifest


def load(repository: Repository, manifest: Manifest) -> bytes:
    """The tar stream of a snapshot."""
    return b"".join(repository.reader(manifest).stream(threading.Event()))
