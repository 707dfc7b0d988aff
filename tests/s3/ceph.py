"""A real S3 server: Ceph's object gateway, a monitor and an OSD that keeps its objects in memory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import boto3

from tests.s3.account import Keys
from tests.s3.process import Process, wait_until

_CONFIG = """
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{monitor_port}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
# Who reaches loopback is trusted: the keys of S3 are what the tests are about.
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
keyring = {directory}/keyring
admin_socket = {directory}/$name.sock
run_dir = {directory}
crash_dir = {directory}
log_file = {directory}/$name.log
mon_cluster_log_file = {directory}/cluster.log
pid_file =
plugin_dir = {libraries}/ceph
erasure_code_dir = {libraries}/ceph/erasure-code
osd_class_dir = {libraries}/rados-classes
mon_data = {directory}/mon
osd_data = {directory}/osd
rgw_data = {directory}/rgw
# One copy of everything, few placement groups, no waiting for a quorum of one.
osd_objectstore = memstore
memstore_device_bytes = 8589934592
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_crush_initial_weight = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
# Server-side encryption over plain HTTP, with a key that stands here.
rgw_crypt_require_ssl = false
rgw_crypt_s3_kms_backend = testing
rgw_crypt_s3_kms_encryption_keys = test-key=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=
rgw_frontends = beast endpoint=127.0.0.1:{port}
"""


class Ceph:
    """A context: the server runs in it, on free ports of loopback, and nothing is left of it after."""

    def __init__(self, root: Path, directory: Path) -> None:
        self._root = root
        self._directory = directory
        self._libraries = next((root / "usr/lib").glob("*-linux-gnu"))
        loader = next(root.glob("usr/lib*/ld-linux*"))
        paths = f"{self._libraries}:{self._libraries}/ceph"
        self._loader = [str(loader), "--library-path", paths]
        self._port, self._monitor_port = free_ports(2)
        self._running: dict[str, Process] = {}
        self._root_keys: Keys | None = None

    @property
    def endpoint(self) -> str:
        """The address of the gateway."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """The port of the gateway."""
        return self._port

    def __enter__(self) -> Self:
        try:
            self._make_cluster()
            self.start_gateway()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Nothing of it is kept, and it takes its time to end in order.
        for process in reversed(self._running.values()):
            process.kill()

    def user(self, *options: str) -> Keys:
        """A new user with keys of its own."""
        name = f"user-{uuid.uuid4().hex[:8]}"
        made = json.loads(self.admin("user", "create", f"--uid={name}", f"--display-name={name}", *options))
        return Keys(name, made["keys"][0]["access_key"], made["keys"][0]["secret_key"])

    def more_keys(self, keys: Keys) -> Keys:
        """Another pair of keys for the same user."""
        words = ("key", "create", f"--uid={keys.user}", "--key-type=s3", "--gen-access-key")
        pairs = {each["access_key"]: each["secret_key"] for each in json.loads(self.admin(*words))["keys"]}
        (access_key,) = pairs.keys() - {keys.access_key}
        return Keys(keys.user, access_key, pairs[access_key])

    def allow(self, keys: Keys, policy: object, *, name: str = "policy") -> None:
        """Give a user a policy."""
        if self._root_keys is None:
            self._root_keys = self.user("--caps=user-policy=*")
        iam = boto3.session.Session().client(
            "iam",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self._root_keys.access_key,
            aws_secret_access_key=self._root_keys.secret_key,
        )
        iam.put_user_policy(UserName=keys.user, PolicyName=name, PolicyDocument=json.dumps(policy))
        iam.close()

    def requests(self) -> int:
        """How many requests the gateway has answered since it was started."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(next(self._directory.glob("client.rgw*.sock"))))
            connection.sendall(b'{"prefix": "perf dump"}\0')
            with connection.makefile("rb") as answer:
                size = int.from_bytes(answer.read(4), "big")
                counted = json.loads(answer.read(size))
        return int(counted["rgw"]["req"])

    def remove_key(self, keys: Keys) -> None:
        """Have the server know the access key no more."""
        self.admin("key", "rm", f"--uid={keys.user}", "--key-type=s3", f"--access-key={keys.access_key}")

    def admin(self, *words: str) -> bytes:
        """What `radosgw-admin` prints."""
        return self._run("radosgw-admin", *words)

    def start_gateway(self) -> None:
        """Have the gateway answer."""
        gateway = self._start("gateway", "radosgw", "-n", "client.rgw")
        wait_until(lambda: listens(self._port), gateway)

    def kill_gateway(self) -> None:
        """Break every connection, and refuse new ones."""
        self._running.pop("gateway").kill()

    def pause_gateway(self) -> None:
        """Accept connections and answer nothing."""
        self._running["gateway"].send(signal.SIGSTOP)

    def resume_gateway(self) -> None:
        """Answer again, also what was asked meanwhile."""
        self._running["gateway"].send(signal.SIGCONT)

    def restore_gateway(self) -> None:
        """Have it answer, whatever was done to it."""
        if "gateway" in self._running:
            self.resume_gateway()
        else:
            self.start_gateway()

    def is_asked(self) -> bool:
        """Whether a request has come in that the gateway, being paused, has not read."""
        address = f"0100007F:{self._port:04X}"
        lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
        return any(words[1] == address and not words[4].endswith(":00000000") for words in lines)

    def _make_cluster(self) -> None:
        for name in ("mon", "osd", "rgw"):
            (self._directory / name).mkdir()
        (self._directory / "keyring").touch()
        fsid, osd = uuid.uuid4(), uuid.uuid4()
        (self._directory / "ceph.conf").write_text(
            _CONFIG.format(
                fsid=fsid,
                directory=self._directory,
                libraries=self._libraries,
                port=self._port,
                monitor_port=self._monitor_port,
            )
        )
        monitor_map = str(self._directory / "monmap")
        address = f"[v2:127.0.0.1:{self._monitor_port}]"
        self._run("monmaptool", "--create", "--fsid", str(fsid), "--addv", "a", address, monitor_map)
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monitor_map)
        self._start("monitor", "ceph-mon", "-i", "a")
        self._ceph("osd", "new", str(osd))
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", str(osd))
        self._start("osd", "ceph-osd", "-i", "0")

    def _command(self, program: str, *words: str) -> list[str]:
        config = str(self._directory / "ceph.conf")
        # The configuration goes first: radosgw-admin and monmaptool read the rest as theirs.
        return [*self._loader, str(self._root / "usr/bin" / program), "-c", config, *words]

    def _run(self, program: str, *words: str) -> bytes:
        return _output(self._command(program, *words))

    def _ceph(self, *words: str) -> None:
        """`ceph`, which is a script: run by the Python that came with it."""
        python = max((self._root / "usr/bin").glob("python3.[0-9]*"))
        script = str(self._root / "usr/bin/ceph")
        config = str(self._directory / "ceph.conf")
        environ = {
            "PYTHONPATH": str(self._root / "usr/lib/python3/dist-packages"),
            "PYTHONHOME": str(self._root / "usr"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [*self._loader, str(python), script, "-c", config, "--connect-timeout", "30", *words]
        _output(command, environ)

    def _start(self, name: str, program: str, *words: str) -> Process:
        log = self._directory / f"{name}.out"
        process = Process(self._command(program, "-f", *words), log)
        self._running[name] = process
        return process


def free_ports(count: int) -> Sequence[int]:
    """Ports of loopback that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _output(command: Sequence[str], environ: dict[str, str] | None = None) -> bytes:
    done = subprocess.run(
        command, capture_output=True, timeout=60, check=False, env={**os.environ, **(environ or {})}
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
