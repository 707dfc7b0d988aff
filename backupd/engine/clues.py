"""What can be found out about a container and its volumes without running anything in them."""

from __future__ import annotations

import http
import io
import tarfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol

from backupd.databases import MARKERS, Database, Facts, recognise
from backupd.engine.client import TIMEOUT_SECONDS, Engine
from backupd.engine.discovery import Survey
from backupd.engine.door import door
from backupd.errors import EngineError
from backupd.gaps import Content
from backupd.volume import Container

PEEK_BYTES = 4 * 1024 * 1024
"""So much of a volume is looked through for files of SQLite: hundredths of a second."""

_SQLITE = b"SQLite format 3\0"


def find_database(engine: Engine, seen: Survey, volume: str) -> Database | None:
    """The database that lies in the volume, if one can be recognised through a container that writes to it.

    Whatever cannot be found out is no sign of one. It is looked anew each time, the dearer the later: the
    image's name, the container's command and variables, files of the volume.
    """
    writers = [user for user in seen.users(volume) if user.writes(volume)]
    for look in (_facts, _own_words, _files):
        for writer in sorted(writers, key=lambda user: user.state != "running"):
            try:
                found = recognise(look(engine, writer, _destination(writer, volume)))
            except EngineError:
                continue
            if found:
                return found
    return None


def content(engine: Engine, seen: Survey, volume: str) -> Content | None:
    """How much the volume holds, as a look through one of its containers tells; None where none does."""
    for user in seen.users(volume):
        mount = next(mount for mount in user.mounts if mount.volume == volume)
        with suppress(EngineError):
            return _peek(engine, user, mount.destination).content
    return None


def _destination(container: Container, volume: str) -> str:
    return next(m.destination for m in container.mounts if m.volume == volume and m.read_write)


def _facts(engine: Engine, container: Container, destination: str) -> Facts:
    return Facts(container.image, destination)


def _own_words(engine: Engine, container: Container, destination: str) -> Facts:
    with door(f"inspect container {container.name}"):
        config: dict[str, Any] = engine.api.inspect_container(container.id)["Config"]
    return Facts(
        config.get("Image") or container.image,
        destination,
        (*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())),
        frozenset(variable.partition("=")[0] for variable in config.get("Env") or ()),
    )


def _files(engine: Engine, container: Container, destination: str) -> Facts:
    seen = _peek(engine, container, destination)
    files = set(seen.files)
    if not seen.content.whole:
        files |= {marker for marker in MARKERS if _exists(engine, container, destination, marker)}
    return Facts("", destination, files=frozenset(files), sqlite=frozenset(seen.sqlite))


def _exists(engine: Engine, container: Container, destination: str, file: str) -> bool:
    api = engine.api
    with door(f"look for a file in container {container.name}"):
        answer = api.head(_archive(api, container), params={"path": f"{destination}/{file}"})
        return bool(answer.status_code == http.HTTPStatus.OK)


@dataclass(frozen=True)
class _Seen:
    """The first files in a volume, those of SQLite, and how much that was."""

    files: frozenset[str]
    sqlite: frozenset[str]
    content: Content


def _peek(engine: Engine, container: Container, destination: str) -> _Seen:
    api, files, sqlite, size = engine.api, set(), set(), 0
    with (
        door(f"look into a volume of container {container.name}"),
        closing(
            api.get(
                _archive(api, container),
                params={"path": f"{destination}/."},
                headers={"Accept-Encoding": "identity"},
                stream=True,
                timeout=TIMEOUT_SECONDS,
            )
        ) as answer,
    ):
        answer.raise_for_status()
        beginning = _Beginning(answer.raw)
        for path, bytes_, head in _members(beginning):
            files.add(path)
            size += bytes_
            if head == _SQLITE:
                sqlite.add(path)
    return _Seen(frozenset(files), frozenset(sqlite), Content(size, whole=not beginning.cut))


def _archive(api: Any, container: Container) -> str:
    return f"{api.base_url}/v{api.api_version}/containers/{container.id}/archive"


def _members(stream: _Beginning) -> Iterator[tuple[str, int, bytes]]:
    """Path, size and first bytes of each member of a tar stream, as far as it goes."""
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                head = content.read(len(_SQLITE)) if content else b""
                yield str(PurePosixPath(member.name)), member.size, head
    except (tarfile.TarError, EOFError):
        stream.cut = True


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Beginning(io.RawIOBase):
    """The first `PEEK_BYTES` of a stream; `cut` says that there is more."""

    def __init__(self, stream: _Readable) -> None:
        self._stream, self._left = stream, PEEK_BYTES
        self.cut = False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes; 0 at the end, whosever it is."""
        data = self._stream.read(min(len(buffer), self._left)) if self._left else b""
        self.cut = not self._left
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)
