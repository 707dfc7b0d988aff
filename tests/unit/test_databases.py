"""Databases are recognised by images, commands, variables and files; what only looks like one is not."""

from __future__ import annotations

import pytest

from backupd.databases import Facts, recognise


def name(image: str = "app:1", destination: str = "/srv", **facts: object) -> str | None:
    found = recognise(Facts(image, destination, **facts))  # type: ignore[arg-type]
    return found.name if found else None


@pytest.mark.parametrize(
    ("image", "destination", "database"),
    [
        ("postgres:16-alpine", "/var/lib/postgresql/data", "PostgreSQL"),
        ("postgres:18", "/var/lib/postgresql", "PostgreSQL"),
        ("registry.example.org:5000/team/postgis:16@sha256:00", "/var/lib/postgresql/data", "PostgreSQL"),
        ("timescale/timescaledb-ha:pg16", "/home/postgres/pgdata/data", "PostgreSQL"),
        ("mysql", "/var/lib/mysql", "MySQL"),
        ("lscr.io/linuxserver/mariadb", "/var/lib/mysql", "MySQL"),
        ("redis:7", "/data", "Redis"),
        ("valkey/valkey:8", "/data", "Redis"),
        ("mongo:7", "/data/db", "MongoDB"),
        ("mongo:7", "/data/configdb", "MongoDB"),
        ("quay.io/coreos/etcd:v3.5", "/etcd-data", "etcd"),
    ],
)
def test_an_image_with_a_volume_where_it_keeps_data(image: str, destination: str, database: str) -> None:
    """By its name alone."""
    assert name(image, destination) == database


@pytest.mark.parametrize(
    ("image", "destination"),
    [
        ("postgres:16", "/backup"),
        ("prometheuscommunity/postgres-exporter", "/var/lib/postgresql/data"),
        ("dpage/pgadmin4", "/var/lib/pgadmin"),
        ("prodrigestivill/postgres-backup-local", "/backups"),
        ("redis/redisinsight", "/data"),
        ("mongo-express", "/data/db"),
        ("nginx", "/data"),
    ],
)
def test_what_only_has_the_name_of_a_database(image: str, destination: str) -> None:
    """A volume elsewhere, and tools around databases."""
    assert name(image, destination) is None


@pytest.mark.parametrize(
    ("command", "destination", "database"),
    [
        (("docker-entrypoint.sh", "postgres", "-D", "/srv/pg"), "/srv/pg", "PostgreSQL"),
        (("mariadbd", "--datadir=/srv/db"), "/srv", "MySQL"),
        (("sh", "-c", "exec /usr/bin/redis-server --dir /srv"), "/srv", "Redis"),
        (("mongod", "--dbpath", "/srv/mongo"), "/srv/mongo", "MongoDB"),
        (("etcd", "--data-dir=/srv/etcd"), "/srv/etcd", "etcd"),
    ],
)
def test_a_command_that_names_the_volume(command: tuple[str, ...], destination: str, database: str) -> None:
    """Whatever the image is called."""
    assert name("company/base", destination, command=command) == database
    assert name("company/base", "/elsewhere", command=command) is None


@pytest.mark.parametrize(
    ("variable", "destination", "database"),
    [
        ("PGDATA", "/var/lib/postgresql/data", "PostgreSQL"),
        ("MARIADB_ROOT_PASSWORD", "/var/lib/mysql", "MySQL"),
        ("MONGO_INITDB_ROOT_USERNAME", "/data/db", "MongoDB"),
        ("ETCD_DATA_DIR", "/var/lib/etcd", "etcd"),
    ],
)
def test_a_variable_of_a_server(variable: str, destination: str, database: str) -> None:
    """An application that has the same variable keeps its volume elsewhere."""
    assert name(destination=destination, environment=frozenset([variable])) == database
    assert name(destination="/uploads", environment=frozenset([variable])) is None


@pytest.mark.parametrize(
    ("file", "database"),
    [
        ("PG_VERSION", "PostgreSQL"),
        ("pgdata/PG_VERSION", "PostgreSQL"),
        ("ibdata1", "MySQL"),
        ("appendonlydir", "Redis"),
        ("dump.rdb", "Redis"),
        ("WiredTiger", "MongoDB"),
        ("member/wal", "etcd"),
    ],
)
def test_files_tell_wherever_the_volume_is_mounted(file: str, database: str) -> None:
    """They are in the volume itself."""
    assert name(files=frozenset([file, "other"])) == database


def test_a_file_of_sqlite() -> None:
    """Told by how it begins; a database that keeps such a file beside its own is that database."""
    assert name(sqlite=frozenset(["data/app.db"])) == "SQLite"
    assert name(files=frozenset(["PG_VERSION"]), sqlite=frozenset(["x.db"])) == "PostgreSQL"
    assert name(files=frozenset(["notes.db"])) is None


def test_the_reason_and_the_caveat_are_told() -> None:
    """So that a person can say that it is wrong."""
    found = recognise(Facts("mysql:8", "/var/lib/mysql"))
    assert found is not None
    assert found.because == "image mysql:8"
    assert "MyISAM" in (found.caveat or "")
