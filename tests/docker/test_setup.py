"""What the set-up scripts promise: images that do what they are called, engines that leave each other be."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker

LABEL = "backupd.test=true"
HELPER_DOCKERFILE = "FROM alpine:3.22\nRUN apk add --no-cache tar\n"
Run = Callable[..., str]


def docker(*command: str, stdin: str = "", fails: bool = False) -> str:
    """What a docker command prints; it must succeed, or with `fails` must not."""
    # the classic builder is in every engine and needs no plugin
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(["docker", *command], input=stdin, env=environment, text=True, capture_output=True)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture
def start() -> Iterator[Run]:
    """Start a container in the background; its id. It and its volumes are removed afterwards."""
    started: list[str] = []

    def run(*arguments: str) -> str:
        name = f"backupd-test-setup-{uuid.uuid4().hex[:8]}"
        started.append(name)
        docker("run", "-d", "--name", name, "--label", LABEL, *arguments)
        return name

    yield run
    for name in started:
        docker("rm", "-f", "-v", name)


def wait_until_it_succeeds(container: str, *command: str) -> None:
    deadline = time.monotonic() + 60
    while subprocess.run(["docker", "exec", container, *command], capture_output=True).returncode != 0:
        assert time.monotonic() < deadline, docker("logs", container)
        time.sleep(0.1)


def user_of_process_one(container: str) -> str:
    status = docker("exec", container, "cat", "/proc/1/status")
    return next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:"))


def test_plain_alpine_has_busybox_tar() -> None:
    """The loss that plain Alpine means for a backup is the same in a stand-in."""
    assert "busybox" in docker("run", "--rm", "--label", LABEL, "alpine:3.22", "tar", "--version")


def test_alpine_with_tar_added_has_gnu_tar() -> None:
    """The two lines of the helper's Dockerfile build, and a shell finds GNU tar as well."""
    image = f"backupd-test-setup:{uuid.uuid4().hex[:8]}"
    docker("build", "-q", "--label", LABEL, "-t", image, "-", stdin=HELPER_DOCKERFILE)
    try:
        for command in (["tar", "--version"], ["sh", "-c", "tar --version"]):
            assert "GNU tar" in docker("run", "--rm", "--read-only", "--network", "none", image, *command)
    finally:
        docker("rmi", image)


def test_alpine_refuses_a_package_that_does_not_exist() -> None:
    """A build that asks for more than there is fails instead of giving a broken image."""
    docker("run", "--rm", "--label", LABEL, "alpine:3.22", "apk", "add", "no-such-package", fails=True)


def test_postgres_initialises_and_asks_for_the_password(start: Run) -> None:
    """User, database and password come from the environment; who has not the password stays outside."""
    settings = ("-e", "POSTGRES_PASSWORD=right", "-e", "POSTGRES_USER=shop", "-e", "POSTGRES_DB=orders")
    postgres = start(*settings, "postgres:16-alpine")
    wait_until_it_succeeds(postgres, "pg_isready", "-h", "127.0.0.1", "-U", "shop")

    def ask(password: str, *, fails: bool) -> str:
        network = ("--network", f"container:{postgres}", "--label", LABEL, "-e", f"PGPASSWORD={password}")
        address = docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", postgres)
        query = ("psql", "-h", address, "-U", "shop", "-d", "orders", "-Atc", "SELECT 6 * 7")
        return docker("run", "--rm", *network, "backupd-test-tools", *query, fails=fails)

    assert ask("right", fails=False) == "42"
    ask("wrong", fails=True)
    assert user_of_process_one(postgres) == "70"


def test_postgres_shuts_down_cleanly_when_stopped(start: Run) -> None:
    """The server itself is process 1, so that it gets the signal."""
    postgres = start("-e", "POSTGRES_PASSWORD=x", "postgres:16-alpine")
    wait_until_it_succeeds(postgres, "pg_isready", "-h", "127.0.0.1")
    docker("stop", postgres)
    assert docker("inspect", "-f", "{{.State.ExitCode}}", postgres) == "0"


def test_redis_takes_arguments_and_keeps_its_data_in_the_volume(start: Run) -> None:
    """`redis-server --appendonly yes` writes below /data and does not run as root."""
    redis = start("redis:7-alpine", "redis-server", "--appendonly", "yes")
    wait_until_it_succeeds(redis, "redis-cli", "ping")
    assert docker("exec", redis, "redis-cli", "set", "pear", "1") == "OK"
    assert "appendonlydir" in docker("exec", redis, "ls", "/data")
    assert user_of_process_one(redis) == "999"


def test_second_engine_leaves_the_bridge_of_the_first_alone(start: Run) -> None:
    """A dockerd without a bridge deletes the docker0 it sees: the second one must not see the first one's."""
    second = os.environ.get("TESTS_SECOND_ENGINE")
    if not second:
        pytest.skip("there is no second engine here")
    assert docker("-H", second, "info", "-f", "{{.ID}}") != docker("info", "-f", "{{.ID}}")
    container = start("--network", "bridge", "alpine:3.22", "sleep", "60")
    assert docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", container)


@pytest.mark.parametrize("name", ["alpine:3.22", "backupd-test-tools"])
def test_second_engine_has_the_images(name: str) -> None:
    """Nothing can be pulled there: what the tests use was copied."""
    second = os.environ.get("TESTS_SECOND_ENGINE")
    if not second:
        pytest.skip("there is no second engine here")
    assert docker("-H", second, "image", "inspect", "-f", "{{.Id}}", name) == docker(
        "image", "inspect", "-f", "{{.Id}}", name
    )


def test_an_engine_that_runs_is_used_as_it_is() -> None:
    """`up` says nothing and does nothing where an engine answers."""
    up = Path(__file__).parents[1] / "engine" / "up"
    done = subprocess.run([up], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
