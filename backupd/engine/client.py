"""A connection to one Docker Engine."""

from __future__ import annotations

import difflib
import http
import os
import re
import socket
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
from docker import APIClient
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.errors import APIError, NotFound

from backupd import __version__
from backupd.engine.door import FOREIGN, door, explanation
from backupd.engine.limits import Limits
from backupd.errors import EngineError, EngineUnreachable, VolumeInUse, VolumeNotFound
from backupd.rate import Rate
from backupd.volume import Volume

TIMEOUT_SECONDS = 60
"""For calls that answer at once; what waits for something names its own time."""

USER_AGENT = f"backupd/{__version__}"
"""By this the gate knows what backupd itself removes, and lets it go without asking backupd."""


class Engine:
    """One Docker Engine. Any thread may use it: docker-py's sessions are not shared between threads."""

    id: str
    name: str
    version: str
    kernel: str
    """Release of the kernel that the engine's containers run on."""
    limits: Limits
    """What a helper may take; helpers made later follow a new value."""
    reading: Rate | None
    """How fast helpers may be read, all together; None: as fast as they can."""
    helpers: set[str]
    """The names of this connection's helpers that are in use."""
    socket: Path | None
    """The unix socket through which the engine is reached, or None."""
    directory: Path
    """Where the engine, on its own machine, keeps its volumes."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.limits, self.reading, self.helpers = Limits(), None, set()
        self._environment = dict(environment)
        self._local = threading.local()
        self._closers: list[weakref.finalize[[], threading.Thread]] = []
        with door("connect to the docker engine"):
            self.socket = self._probed_socket()
            info = self.api.info()
        self.name = info.get("Name") or "docker"
        self.id = info.get("ID") or self.name
        self.version = info.get("ServerVersion") or "unknown"
        self.kernel = info.get("KernelVersion") or "unknown"
        self.directory = Path(info.get("DockerRootDir") or "/var/lib/docker")

    @classmethod
    def connect(cls, host: str | None = None) -> Engine:
        """The engine at `host`, or the one that DOCKER_HOST, the docker context or the default socket names.

        Raises `EngineUnreachable` with what to do about it.
        """
        environment = {**os.environ, "DOCKER_HOST": host} if host else dict(os.environ)
        try:
            return cls(environment)
        except EngineUnreachable:
            raise
        except EngineError as error:
            where = host or environment.get("DOCKER_HOST") or "the default socket"
            raise EngineUnreachable(
                f"{error.message} ({where})", hint="check DOCKER_HOST and the current docker context"
            ) from error

    def close(self) -> None:
        """Close the connections of every thread."""
        for closer in list(self._closers):
            closer()

    @property
    def api(self) -> APIClient:
        """This thread's own client, closed when the thread has gone; use it inside `door`."""
        client: APIClient | None = getattr(self._local, "client", None)
        if client is None:
            client = self._client("auto")
            self._local.client = client
            closer = weakref.finalize(threading.current_thread(), client.close)
            self._closers = [closer, *(other for other in self._closers if other.alive)]
        return client

    def clock(self) -> datetime:
        """What time it is for the engine."""
        with door("ask the engine for the time"):
            said: str = self.api.info()["SystemTime"]
        return moment(said)

    @contextmanager
    def within(self, seconds: int, action: str) -> Iterator[APIClient]:
        """A `door` to this thread's client for a call that the engine may never answer.

        What takes longer is `EngineUnreachable` only if the engine does not answer to anything else either.
        """
        api, begun = self.api, time.monotonic()
        usual, api.timeout = api.timeout, seconds
        try:
            with door(action):
                yield api
        except EngineUnreachable as error:
            if time.monotonic() - begun < seconds or not self._answers():
                raise
            raise EngineError(f"cannot {action}: the engine hangs at that, and only at that") from error
        finally:
            api.timeout = usual

    def volume(self, name: str) -> Volume:
        """The volume of exactly that name; `VolumeNotFound` names the nearest others."""
        with door(f"inspect volume {name}"):
            if name not in ("", ".", "..") and "/" not in name:
                try:
                    return described(self.api.inspect_volume(name))
                except NotFound:
                    pass
            names = [volume["Name"] for volume in self.api.volumes()["Volumes"] or ()]
        raise not_found(name, names)

    def created(self, name: str) -> str:
        """When the volume was made, in the engine's words; `VolumeNotFound` if there is none."""
        with door(f"inspect volume {name}"):
            try:
                return str(self.api.inspect_volume(name).get("CreatedAt"))
            except NotFound:
                raise not_found(name, ()) from None

    def create_volume(self, volume: Volume) -> None:
        """Make the volume with its driver, options and labels; `VolumeInUse` if the name is taken."""
        try:
            self.volume(volume.name)
        except VolumeNotFound:
            pass
        else:
            raise VolumeInUse(
                f"volume {volume.name} exists already",
                hint=f"choose another name, or remove it: docker volume rm {volume.name}",
            )
        with door(f"create volume {volume.name}"):
            self.api.create_volume(
                volume.name,
                driver=volume.driver,
                driver_opts=dict(volume.options) or None,
                labels=dict(volume.labels) or None,
            )

    def remove_volume(self, name: str) -> None:
        """Remove the volume, which may be gone already; `VolumeInUse` if a container refers to it."""
        with door(f"remove volume {name}"):
            try:
                self.api.remove_volume(name)
            except NotFound:
                pass
            except APIError as error:
                if error.status_code != http.HTTPStatus.CONFLICT:
                    raise
                raise VolumeInUse(f"cannot remove volume {name}: {explanation(error)}") from error

    def _answers(self) -> bool:
        try:
            return bool(self.api.ping())
        except FOREIGN:
            return False

    def _client(self, version: str) -> APIClient:
        environment = self._environment
        client = docker.from_env(version=version, timeout=TIMEOUT_SECONDS, environment=environment).api
        client.headers["User-Agent"] = USER_AGENT
        return client

    def _probed_socket(self) -> Path | None:
        """The unix socket, once it has answered: docker-py leaks the descriptor of a refused connection."""
        idle = self._client(DEFAULT_DOCKER_API_VERSION)
        path = getattr(idle.get_adapter(idle.base_url), "socket_path", None)
        if path is None:
            return None
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(TIMEOUT_SECONDS)
            probe.connect(path)
        return Path(path)


def moment(said: str) -> datetime:
    """The time that the engine names, without the nanoseconds, which no datetime has."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", said))


def described(answer: Mapping[str, Any]) -> Volume:
    """The volume that an answer of the engine describes."""
    return Volume(
        name=answer["Name"],
        driver=answer["Driver"],
        options=answer.get("Options") or {},
        labels=answer.get("Labels") or {},
    )


def not_found(name: str, names: Iterable[str]) -> VolumeNotFound:
    """The error that says that there is no such volume, and which ones were perhaps meant."""
    known = sorted(names)
    nearest = [other for other in known if name and other.endswith(f"_{name}")]
    nearest += [other for other in difflib.get_close_matches(name, known) if other not in nearest]
    if nearest:
        hint = f"did you mean {', '.join(nearest[:3])}?"
    else:
        hint = "`docker volume ls` lists the volumes that exist"
    return VolumeNotFound(f"no volume named {name!r}", hint=hint)
