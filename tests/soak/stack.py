"""Applications under load on an engine of the soak's own, and what must be true of their data."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.docker.own_engine import OwnEngine, wait_until

IMAGES = ("postgres:16-alpine", "redis:7-alpine", "backupd-test-tools", "alpine:3.22")
VOLUMES = ("soak_pg", "soak_redis", "soak_files")
CONTAINERS = ("pg", "redis", "files")

# Clients are in containers of their own: a process that an engine starts in a container (by exec,
# a health check) while that is being paused can freeze half-made, and then nothing unpauses the container.
_PG_SOCKET, _REDIS_SOCKET = "/var/run/postgresql", "/sockets/redis.sock"
_TRANSACTIONS = f"while :; do pgbench -n -c 2 -T 5 -h {_PG_SOCKET} -U postgres postgres; sleep 0.2; done"
_SCRIPT = "redis.call('incr', 'a') redis.call('incr', 'b') return 1"
_INCREMENTS = (
    f'while :; do redis-benchmark -s {_REDIS_SOCKET} -q -n 5000 -c 2 eval "{_SCRIPT}" 0; sleep 0.2; done'
)

# Each file is complete once it has its name; "newest" names one that is.
_FILES = """trap 'exit 0' TERM
n=$(cat /data/newest 2>/dev/null || echo 0)
while :; do
    n=$((n + 1))
    seq $n | head -c 20000 > /data/new; sha256sum < /data/new > /data/new.sum
    mv /data/new /data/$((n % 50)); mv /data/new.sum /data/$((n % 50)).sum
    echo $n > /data/new; mv /data/new /data/newest
    sleep 0.1
done"""
_TABLES = (
    "create table if not exists orders (n integer primary key); "
    "insert into orders select 0 where not exists (select from orders)"
)
_EQUAL = "select sum(abalance) from pgbench_accounts union select sum(bbalance) from pgbench_branches \
union select sum(tbalance) from pgbench_tellers union select coalesce(sum(delta), 0) from pgbench_history"
_WHOLE = """cd /data; n=$(cat newest); m=$((n % 50)); test "$(sha256sum < $m)" = "$(cat $m.sum)" """
_REDIS = ("--appendonly", "yes", "--unixsocketperm", "777")
PATIENCE_SECONDS = 120.0


class Stack:
    """PostgreSQL and Redis, which are read in one window, and an application that is stopped for its backup.

    One writer counts orders in PostgreSQL first and in Redis then, so that Redis is behind by one or not at
    all, at every moment. `restart: always`: an engine that is killed brings all of them back by itself;
    containers that are `unless-stopped` and were stopped for a backup it would leave down.
    """

    def __init__(self, engine: OwnEngine) -> None:
        self._engine = engine
        self._sockets = engine.directory / "sockets"
        for name in ("pg", "redis"):
            directory = self._sockets / name
            directory.mkdir(parents=True)
            directory.chmod(0o777)

    def start(self) -> None:
        """Make the volumes, start the containers, fill the database."""
        for volume in VOLUMES:
            group, quiesce = ("none", "stop") if volume == "soak_files" else ("soak", "pause")
            labels = ("backupd.enable=true", f"backupd.group={group}", f"backupd.quiesce={quiesce}")
            self._engine.docker(
                "volume", "create", *(word for label in labels for word in ("--label", label)), volume
            )
        for name in CONTAINERS:
            self.run(name, name, f"soak_{name}", "--restart", "always", *self._shared(name))
        self.wait_for_postgres("pg")
        self.execute("pg", "pgbench", "-q", "-i", "-s", "5", "-U", "postgres", "postgres")
        self.execute("redis", "redis-cli", "mset", "a", "0", "b", "0", "orders", "0")
        self.query("pg", _TABLES)

    def run(self, kind: str, name: str, volume: str, *words: str) -> None:
        """Start a container of one of the three kinds on a volume."""
        trust, data = "POSTGRES_HOST_AUTH_METHOD=trust", f"{volume}:/var/lib/postgresql/data"
        # a copy that is only looked at has no client
        at = ("--unixsocket", _REDIS_SOCKET) if name == kind else ()
        given: dict[str, tuple[str, ...]] = {
            "pg": ("-e", trust, "-v", data, IMAGES[0]),
            "redis": ("-v", f"{volume}:/data", IMAGES[1], "redis-server", *_REDIS, *at),
            "files": ("-v", f"{volume}:/data", IMAGES[2], "sh", "-c", _FILES),
        }
        self._engine.docker("run", "-d", "--name", name, "--network", "none", *words, *given[kind])

    @contextmanager
    def load(self) -> Iterator[None]:
        """Keep all of them writing, whatever is killed meanwhile."""
        stop = threading.Event()
        orders = threading.Thread(target=self._orders, args=(stop,), daemon=True)
        for name, image, work in (("pg", IMAGES[0], _TRANSACTIONS), ("redis", IMAGES[1], _INCREMENTS)):
            words = ("--network", "none", "--restart", "always", *self._shared(name), image, "sh", "-c", work)
            self._engine.docker("run", "-d", "--name", f"{name}-client", *words)
        orders.start()
        try:
            yield
        finally:
            stop.set()
            orders.join()
            self._engine.docker("rm", "-f", "pg-client", "redis-client", code=None)

    def check(self, kind: str, name: str, volume: str) -> int:
        """Start an application on a restored volume, and prove its data; how many orders it knows of.

        Raises AssertionError where something does not agree.
        """
        if kind == "files":
            words = ("run", "--rm", "-v", f"{volume}:/data:ro", "--network", "none", IMAGES[2])
            self._engine.docker(*words, "sh", "-ec", _WHOLE)
            return 0
        try:
            self.run(kind, name, volume)
            return self._postgres(name) if kind == "pg" else self._redis(name)
        finally:
            self._engine.docker("rm", "-f", "-v", name, code=None)

    def execute(self, name: str, *words: str, code: int | None = 0) -> str:
        """Run a command in a container; what it printed."""
        return self._engine.docker("exec", name, *words, code=code).stdout

    def query(self, name: str, sql: str) -> list[str]:
        """The lines that a query answers."""
        words = ("psql", "-h", _PG_SOCKET, "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-Atqc", sql)
        return self.execute(name, *words).split()

    def wait_for_postgres(self, name: str) -> None:
        """Until it answers, and not only while it is being initialised."""
        words = ("pg_isready", "-h", "127.0.0.1", "-U", "postgres")
        wait_until(lambda: "accepting" in self.execute(name, *words, code=None), PATIENCE_SECONDS)

    def _postgres(self, name: str) -> int:
        self.wait_for_postgres(name)
        sums = self.query(name, _EQUAL)
        assert len(sums) == 1, f"accounts, branches, tellers and history disagree: {sums}"
        first, last, count = self.query(name, "select min(n), max(n), count(*) from orders")[0].split("|")
        assert int(last) - int(first) + 1 == int(count), f"orders are missing: {count} of {first} to {last}"
        return int(last)

    def _redis(self, name: str) -> int:
        def pong() -> bool:
            return "PONG" in self.execute(name, "redis-cli", "ping", code=None)

        wait_until(pong, PATIENCE_SECONDS)
        first, second, last = self.execute(name, "redis-cli", "mget", "a", "b", "orders").split()
        assert first == second, f"two counters of one transaction disagree: {first} and {second}"
        return int(last)

    def _shared(self, name: str) -> tuple[str, ...]:
        """Where a server's socket is, on it and on its client."""
        if name == "files":
            return ()
        return ("-v", f"{self._sockets}/{name}:{_PG_SOCKET if name == 'pg' else '/sockets'}")

    def _orders(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with suppress(AssertionError, ValueError, IndexError):
                last = int(self.query("pg-client", "select max(n) from orders")[0])
                words = ("redis-cli", "-s", _REDIS_SOCKET, "set", "orders", str(last))
                assert "OK" in self.execute("redis-client", *words)
                self.query("pg-client", f"insert into orders values ({last + 1})")
            stop.wait(0.05)
