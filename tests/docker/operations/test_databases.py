"""Databases under load are saved, restored, and agree with themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.docker.conftest import MakeVolume
from tests.docker.operations.conftest import Site

pytestmark = pytest.mark.docker

PATIENCE_SECONDS = 60
START_POSTGRES = {"POSTGRES_PASSWORD": "test", "POSTGRES_DB": "bank"}
BALANCES = (
    "select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers),"
    " (select sum(bbalance) from pgbench_branches), (select sum(delta) from pgbench_history),"
    " (select count(*) > 100 from pgbench_history)"
)

Serve = Callable[..., "Server"]


class Server:
    """A database server in a container."""

    def __init__(self, site: Site, container: str) -> None:
        self._api = site.context.engine.api
        self.container = container

    def call(self, *words: str) -> tuple[int, str]:
        """Run a command in the container: its exit code and what it printed."""
        command = self._api.exec_create(self.container, list(words))["Id"]
        printed: bytes = self._api.exec_start(command)
        return self._api.exec_inspect(command)["ExitCode"], printed.decode().strip()

    def ask(self, *words: str) -> str:
        """What a command printed, which must succeed."""
        code, printed = self.call(*words)
        assert code == 0, printed
        return printed

    def begin(self, *words: str) -> None:
        """Start a command and leave it running."""
        self._api.exec_start(self._api.exec_create(self.container, list(words))["Id"], detach=True)

    def wait_until(self, *words: str) -> None:
        """Wait until a command succeeds."""
        pause = threading.Event()
        for _ in range(PATIENCE_SECONDS * 5):
            if self.call(*words)[0] == 0:
                return
            pause.wait(0.2)
        raise AssertionError(f"{words} did not succeed: {self._api.logs(self.container, tail=20).decode()}")


@pytest.fixture
def serve(site: Site) -> Iterator[Serve]:
    """Start servers on volumes; they are removed after the test."""
    api = site.context.engine.api
    started: list[str] = []

    def start(image: str, volume: str, at: str, command: str, environment: dict[str, str]) -> Server:
        container = api.create_container(
            image,
            command.split(),
            environment=environment,
            labels={"backupd.test": "true"},
            host_config=api.create_host_config(binds=[f"{volume}:{at}"], network_mode="none"),
        )["Id"]
        started.append(container)
        api.start(container)
        return Server(site, container)

    yield start
    for container in started:
        api.remove_container(container, force=True, v=True)


def test_postgresql_under_load_is_restored_and_its_books_balance(
    site: Site, make_volume: MakeVolume, serve: Serve
) -> None:
    """Paused while tar reads: redo brings it up, and the four sums that pgbench keeps equal are equal."""
    volume, target = make_volume(), make_volume()
    place = "/var/lib/postgresql/data"
    server = serve("postgres:16-alpine", volume, place, "postgres", START_POSTGRES)
    ready = ("pg_isready", "-h", "127.0.0.1", "-U", "postgres", "-d", "bank")
    server.wait_until(*ready)
    server.ask("pgbench", "-U", "postgres", "-i", "-s", "5", "-q", "bank")
    server.begin("pgbench", "-U", "postgres", "-c", "4", "-T", "300", "bank")
    enough = "select 1 / (count(*) > 500)::int from pgbench_history"
    server.wait_until("psql", "-U", "postgres", "-tAc", enough, "bank")

    snapshot = site.backup(volume)
    assert snapshot.consistency == "crash-consistent"
    site.restore(snapshot, to=target)

    restored = serve("postgres:16-alpine", target, place, "postgres", START_POSTGRES)
    restored.wait_until(*ready)
    accounts, tellers, branches, history, some = restored.ask(
        "psql", "-U", "postgres", "-tAc", BALANCES, "bank"
    ).split("|")
    assert accounts == tellers == branches == history
    assert some == "t"
    assert server.ask("psql", "-U", "postgres", "-tAc", "select 1", "bank") == "1"


def test_redis_under_load_is_restored_and_its_counters_agree(
    site: Site, make_volume: MakeVolume, serve: Serve
) -> None:
    """Two counters that every transaction raises together are equal after the restore."""
    volume, target = make_volume(), make_volume()
    command = "redis-server --appendonly yes"
    server = serve("redis:7-alpine", volume, "/data", command, {})
    server.wait_until("redis-cli", "ping")
    both = "redis.call('incr', 'a'); redis.call('set', 'x', string.rep('x', 2000)); redis.call('incr', 'b')"
    server.begin("redis-cli", "-r", "-1", "eval", both, "0")
    server.wait_until("sh", "-c", "[ $(redis-cli get b) -gt 500 ]")

    site.restore(site.backup(volume), to=target)

    restored = serve("redis:7-alpine", target, "/data", command, {})
    restored.wait_until("sh", "-c", "redis-cli get b | grep -q .")
    first, second = restored.ask("redis-cli", "mget", "a", "b").splitlines()
    assert first == second
    assert int(first) > 500
