"""What is in deploy/ and the Dockerfile, built and run as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PATIENCE_SECONDS = 120

PREFIX = "backupd-test-deploy"
CONFIG = f"""
[[volume]]
match = "{PREFIX}*"

# Other volumes of the engine are none of a test's business, whatever their labels say.
[[volume]]
match = "*"
enable = false
"""

Compose = Callable[..., str]


def ran(*command: str, environment: dict[str, str] | None = None, fails: bool = False) -> str:
    """What a command prints; it must succeed, or with `fails` must not."""
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=600
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout.strip() or done.stderr.strip() if fails else done.stdout.strip()


def base_image() -> dict[str, str]:
    """The images to build on: the real ones where they can be had, else the stand-in for Python."""
    there = subprocess.run(["docker", "image", "inspect", "python:3.14-slim"], capture_output=True)
    stand_in = {"BUILD_IMAGE": "python:3.13-alpine", "IMAGE": "python:3.13-alpine"}
    return {} if there.returncode == 0 else stand_in


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """backupd's own image, built from the Dockerfile; removed afterwards."""
    work = tmp_path_factory.mktemp("image")
    ran(sys.executable, str(DEPLOY / "demo" / "pip_settings.py"), str(work))
    name = f"backupd-test-image-{uuid.uuid4().hex[:8]}"
    override = work / "override.yaml"
    service = {"image": name, "build": {"args": base_image(), "labels": {"backupd.test": "true"}}}
    override.write_text(json.dumps({"services": {"backupd": service}}))
    environment = {"PIP_CONF": str(work / "pip.conf"), "CA_BUNDLE": str(work / "ca.pem")}
    files = ("-f", str(DEPLOY / "compose.yaml"), "-f", str(override))
    ran(
        "docker",
        "compose",
        *files,
        "build",
        environment={**environment, "DOCKER_GID": "0", "BACKUPD_HOST": "t"},
    )
    yield name
    ran("docker", "image", "rm", "-f", name)


@pytest.fixture
def compose(image: str, tmp_path: Path) -> Iterator[Compose]:
    """`docker compose` on deploy/compose.yaml with that image, as a project of its own; goes afterwards."""
    project = f"backupd-test-{uuid.uuid4().hex[:8]}"
    override = tmp_path / "override.yaml"
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    # every fixed interval of the health check would be waited for
    check = {"interval": "1s", "start_period": "60s", "timeout": "30s"}
    configured = f"{config}:/etc/backupd/config.toml:ro"
    service = {"image": image, "healthcheck": check, "volumes": [configured]}
    override.write_text(json.dumps({"services": {"backupd": service}}))
    files = ("-f", str(DEPLOY / "compose.yaml"), "-f", str(override))
    environment = {
        "DOCKER_GID": str(Path("/var/run/docker.sock").stat().st_gid),
        "BACKUPD_HOST": "test-host",
        "COMPOSE_PROJECT_NAME": project,
    }

    def call(*words: str, fails: bool = False) -> str:
        return ran("docker", "compose", *files, *words, environment=environment, fails=fails)

    yield call
    call("down", "-v", "--timeout", "30")


@pytest.fixture
def volume() -> Iterator[str]:
    """A labelled volume with a file in it."""
    name = f"{PREFIX}-{uuid.uuid4().hex[:8]}"
    ran("docker", "volume", "create", "--label", "backupd.test=true", "--label", "backupd.enable=true", name)
    in_volume(name, "echo precious >/volume/file; chown 70:70 /volume/file; chmod 600 /volume/file")
    yield name
    ran("docker", "volume", "rm", "-f", name)


def in_volume(name: str, script: str) -> str:
    """What a shell prints that has the volume at /volume."""
    mount = f"type=volume,source={name},target=/volume"
    return ran(
        "docker", "run", "--rm", "--network", "none", "--mount", mount, "alpine:3.22", "sh", "-c", script
    )


def wait_for(compose: Compose, expected: str) -> str:
    """The container's id once it is in that state of health."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        container = compose("ps", "-q", "backupd")
        state = ran("docker", "inspect", "-f", "{{.State.Health.Status}}", container)
        if state == expected:
            return container
        assert time.monotonic() < deadline, compose("logs")
        time.sleep(0.5)


def test_the_sidecar_saves_and_restores_a_volume(compose: Compose, volume: str) -> None:
    """Not root, with the socket's group alone, its file system read-only: all of a volume comes back."""
    compose("run", "--rm", "backupd", "init")
    compose("up", "-d")
    container = wait_for(compose, "healthy")
    compose("exec", "backupd", "backupd", "backup", volume)
    in_volume(volume, "echo ruined >/volume/file")
    compose("exec", "backupd", "backupd", "restore", volume, "--replace", "--yes")
    assert in_volume(volume, "cat /volume/file; stat -c %u:%a /volume/file") == "precious\n70:600"
    inspected = json.loads(ran("docker", "inspect", container))[0]
    assert inspected["Config"]["User"] == "10001:10001"
    assert inspected["HostConfig"]["ReadonlyRootfs"]
    compose("stop")
    # 137 would say that it had to be killed
    assert ran("docker", "inspect", "-f", "{{.State.ExitCode}}", container) == "0"


def test_helpers_meet_it_in_a_volume_that_both_mount(compose: Compose) -> None:
    """The FIFO lies in the state volume: the fast way also from inside a container."""
    found = compose("run", "--rm", "--entrypoint", "python", "backupd", "-c", MEETING)
    assert json.loads(found) == {"source": "state", "type": "volume"}


MEETING = """
import json, pathlib
from backupd.engine.client import Engine
from backupd.engine.fifo import meeting
with meeting(Engine.connect(None), pathlib.Path("/var/lib/backupd/fifo")) as place:
    mount = place.mount
    print(json.dumps({"source": mount["Source"].rpartition("_")[2], "type": mount["Type"]}))
"""


def test_its_own_image_is_a_helper_image_where_none_can_be_built(compose: Compose) -> None:
    """Without a network there is no Alpine; GNU tar is in backupd's image."""
    found = compose("run", "--rm", "--entrypoint", "python", "backupd", "-c", LADDER)
    assert json.loads(found.splitlines()[-1]) == {"own": True, "tar": "gnu"}


LADDER = """
import json
from backupd.engine import image
from backupd.engine.client import Engine
from backupd.engine.own import own_container
engine = Engine.connect(None)
image.RECIPE = b"FROM scratch\\nCOPY absent /\\n"
found = image.helper_image(engine, None, lambda line: None, instance="backupd-test")
print(json.dumps({"own": found.reference == own_container(engine).image, "tar": found.tar}))
"""


def test_its_own_volumes_are_not_saved(compose: Compose) -> None:
    """A repository that saves itself grows for ever. (I6)"""
    compose("run", "--rm", "backupd", "init")
    state = compose("config", "--volumes").split()
    assert set(state) == {"backups", "state"}
    project = json.loads(compose("config", "--format", "json"))["name"]
    refused = compose("run", "--rm", "backupd", "backup", f"{project}_backups", fails=True)
    assert "backupd's own repository or state" in refused


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "s3.compose.yaml"]], ids=" ".join)
def test_the_compose_files_are_valid(files: list[str], tmp_path: Path) -> None:
    """Compose reads them; what has no default says what it wants."""
    words = [word for name in files for word in ("-f", str(DEPLOY / name))]
    wanted = {"DOCKER_GID": "999", "BACKUPD_HOST": "db1", "BACKUPD_STORAGE": "s3://bucket/prefix"}
    ran("docker", "compose", *words, "config", "-q", environment=wanted)
    assert "see the top of this file" in ran("docker", "compose", *words, "config", "-q", fails=True)


def test_the_stack_file_is_valid() -> None:
    """As `docker stack deploy` reads it: what swarm does not know is refused there."""
    wanted = {
        "BACKUPD_IMAGE": "registry.example.org/backupd",
        "BACKUPD_STORAGE": "s3://b",
        "DOCKER_GID": "999",
    }
    read = yaml.safe_load(
        ran("docker", "stack", "config", "-c", str(DEPLOY / "swarm.yaml"), environment=wanted)
    )
    service = read["services"]["backupd"]
    assert service["deploy"]["mode"] == "global"
    assert service["environment"]["BACKUPD_HOST"] == "{{.Node.Hostname}}"
