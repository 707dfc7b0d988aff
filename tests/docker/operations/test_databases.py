"""Databases under load are recognised, saved, restored, and agree with themselves."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backupd.engine.clues import find_database
from backupd.engine.discovery import survey
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

START_MARIADB = (
    "[ -d /var/lib/mysql/mysql ] || mariadb-install-db --user=root --datadir=/var/lib/mysql --skip-test-db"
    " --auth-root-authentication-method=normal >/dev/null;"
    " exec mariadbd --user=root --datadir=/var/lib/mysql --socket=/run/mysqld/mysqld.sock --skip-networking"
)
MARIADB = ("mariadb", "--socket=/run/mysqld/mysqld.sock", "-uroot", "-N", "--delimiter=//", "-e")
MARIADB_TABLES = """
create database bank//
use bank//
create table account (id int primary key, balance int not null) engine=innodb//
insert into account select seq, 1000 from seq_1_to_100//
create table transfer
    (id int auto_increment primary key, source int, target int, amount int) engine=innodb//
"""
MARIADB_ENOUGH = """
begin not atomic
    if (select count(*) from bank.transfer) < 300 then
        signal sqlstate '45000';
    end if;
end//
"""
MARIADB_LOAD = """
begin not atomic
    declare source, target, amount int;
    while true do
        set source = 1 + floor(100 * rand()), target = 1 + floor(100 * rand()), amount = floor(100 * rand());
        start transaction;
        update bank.account set balance = balance - amount where id = source;
        update bank.account set balance = balance + amount where id = target;
        insert into bank.transfer (source, target, amount) values (source, target, amount);
        commit;
    end while;
end//
"""
MARIADB_ERRORS = """
select count(*) from bank.account a where balance <> 1000
    - (select coalesce(sum(amount), 0) from bank.transfer t where t.source = a.id)
    + (select coalesce(sum(amount), 0) from bank.transfer t where t.target = a.id)//
"""
SQLITE_LOAD = """
import itertools, sqlite3
base = sqlite3.connect("/srv/app.db", isolation_level=None)
base.execute("pragma journal_mode=wal")
base.execute("create table if not exists entry (id integer primary key, text)")
base.execute("create table if not exists total (count)")
base.execute("insert into total values (0)")
for number in itertools.count():
    base.execute("begin")
    base.execute("insert into entry (text) values (?)", ("x" * (number % 3000),))
    base.execute("update total set count = count + 1")
    base.execute("commit")
"""
SQLITE_ENOUGH = """
import sqlite3
[count] = sqlite3.connect("/srv/app.db").execute("select count from total").fetchone()
assert count > 600
"""
SQLITE_CHECK = """
import sqlite3
base = sqlite3.connect("/srv/app.db")
print(*base.execute("pragma integrity_check").fetchone())
print(*base.execute("select (select count(*) from entry) - count, count > 500 from total").fetchone())
"""

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

    def start(
        image: str, volume: str, at: str, command: str | list[str], environment: dict[str, str] | None = None
    ) -> Server:
        container = api.create_container(
            image,
            command.split() if isinstance(command, str) else command,
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


@pytest.fixture
def mariadb_image(site: Site) -> str:
    """An image with MariaDB on the engine."""
    main = site.context.engine.socket == Path("/var/run/docker.sock")
    host = [] if main else [f"unix://{site.context.engine.socket}"]
    subprocess.run([Path(__file__).parents[1] / "mariadb" / "image", *host], check=True)
    return "backupd-test-mariadb"


def recognised(site: Site, volume: str) -> str | None:
    """The database that is seen in the volume."""
    engine = site.context.engine
    found = find_database(engine, survey(engine), volume)
    return found.name if found else None


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

    assert recognised(site, volume) == "PostgreSQL"
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

    assert recognised(site, volume) == "Redis"
    site.restore(site.backup(volume), to=target)

    restored = serve("redis:7-alpine", target, "/data", command, {})
    restored.wait_until("sh", "-c", "redis-cli get b | grep -qE '^[0-9]+$'")
    first, second = restored.ask("redis-cli", "mget", "a", "b").splitlines()
    assert first == second
    assert int(first) > 500
    assert restored.ask("redis-cli", "dbsize") == "3"
    restored.ask("redis-check-aof", "/data/appendonlydir/appendonly.aof.manifest")


def test_mariadb_under_load_is_restored_and_its_books_balance(
    site: Site, make_volume: MakeVolume, serve: Serve, mariadb_image: str
) -> None:
    """Each account agrees with the transfers to and from it, and CHECK TABLE finds nothing."""
    volume, target, place = make_volume(), make_volume(), "/var/lib/mysql"
    command = ["sh", "-c", START_MARIADB]
    server = serve(mariadb_image, volume, place, command)
    server.wait_until(*MARIADB, "select 1//")
    server.ask(*MARIADB, MARIADB_TABLES)
    server.begin(*MARIADB, MARIADB_LOAD)
    server.wait_until(*MARIADB, MARIADB_ENOUGH)

    assert recognised(site, volume) == "MySQL"
    snapshot = site.backup(volume)
    assert snapshot.consistency == "crash-consistent"
    site.restore(snapshot, to=target)

    restored = serve(mariadb_image, target, place, command)
    restored.wait_until(*MARIADB, "select 1//")
    assert restored.ask(*MARIADB, "select sum(balance) from bank.account//") == "100000"
    assert restored.ask(*MARIADB, MARIADB_ERRORS) == "0"
    assert int(restored.ask(*MARIADB, "select count(*) from bank.transfer//")) >= 300
    checked = restored.ask(*MARIADB, "check table bank.account, bank.transfer extended//")
    assert [line.split("\t")[-1] for line in checked.splitlines()] == ["OK", "OK"]
    assert server.ask(*MARIADB, "select 1//") == "1"


def test_sqlite_under_load_is_restored_and_whole(site: Site, make_volume: MakeVolume, serve: Serve) -> None:
    """The file and its write-ahead log are of one moment: what was committed is there, and nothing else."""
    volume, target, image = make_volume(), make_volume(), "backupd-test-tools"
    server = serve(image, volume, "/srv", ["python3", "-c", SQLITE_LOAD])
    server.wait_until("python3", "-c", SQLITE_ENOUGH)

    assert recognised(site, volume) == "SQLite"
    snapshot = site.backup(volume)
    assert snapshot.consistency == "crash-consistent"
    site.restore(snapshot, to=target)

    restored = serve(image, target, "/srv", "sleep 1000")
    assert restored.ask("python3", "-c", SQLITE_CHECK).splitlines() == ["ok", "0 1"]
