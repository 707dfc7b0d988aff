"""A weak S3 server: Swift with its s3api, one process for each part; its conditional puts are not atomic."""

from __future__ import annotations

import getpass
import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Self

from tests.s3.account import Keys
from tests.s3.ceph import free_ports, listens
from tests.s3.process import Process, wait_until

KINDS = ("account", "container", "object")
_SWIFT = """
[swift-hash]
swift_hash_path_suffix = test

[storage-policy:0]
name = only
default = yes
"""
_SERVER = """
[DEFAULT]
swift_dir = {directory}
user = {user}
bind_ip = 127.0.0.1
bind_port = {port}
devices = {directory}/devices
mount_check = false
# In the process itself: a child would outlive it.
workers = 0

[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
"""
_PROXY = """
[DEFAULT]
swift_dir = {directory}
user = {user}
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0

[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats bulk s3api tempauth copy slo dlo proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true

[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin

[filter:s3api]
use = egg:swift#s3api

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


class Swift:
    """A context: the server runs in it, on free ports of loopback, and nothing is left of it after."""

    keys = Keys("test", "test:tester", "testing")

    def __init__(self, root: Path, directory: Path) -> None:
        self._programs = root / "bin"
        self._directory = directory
        self._running: list[Process] = []
        self._port, *ports = free_ports(1 + len(KINDS))
        self._ports = dict(zip(KINDS, ports, strict=True))

    @property
    def endpoint(self) -> str:
        """The address of the proxy, which speaks S3."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        (self._directory / "devices/disk").mkdir(parents=True)
        (self._directory / "swift.conf").write_text(_SWIFT)
        try:
            for kind, port in self._ports.items():
                self._make_ring(kind, port)
                self._start(kind, _SERVER, port)
            self._start("proxy", _PROXY, self._port)
            for port in (*self._ports.values(), self._port):
                wait_until(partial(listens, port), *self._running)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running):
            process.kill()

    def _make_ring(self, kind: str, port: int) -> None:
        """Everything of a kind on the one disk."""
        builder = str(self._directory / f"{kind}.builder")
        for words in (
            ("create", "4", "1", "0"),
            ("add", f"r1z1-127.0.0.1:{port}/disk", "1"),
            ("rebalance",),
        ):
            command = [self._programs / "swift-ring-builder", builder, *words]
            done = subprocess.run(command, capture_output=True, timeout=60, check=False)
            assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()

    def _start(self, kind: str, text: str, port: int) -> None:
        config = self._directory / f"{kind}-server.conf"
        user = getpass.getuser()
        config.write_text(text.format(directory=self._directory, user=user, port=port, kind=kind))
        command = [str(self._programs / f"swift-{kind}-server"), str(config)]
        environ = {**os.environ, "PYTHONWARNINGS": "ignore"}
        self._running.append(Process(command, self._directory / f"{kind}.out", environ=environ))
