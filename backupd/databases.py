"""Databases, recognised by what a container is and by what it leaves in a volume: pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Facts:
    """What is known of a container and of one volume that it mounts at `destination`.

    `command` is all that it executes, entrypoint first; `environment` are the names of its variables, never
    what they hold. `files` are paths in the volume, `sqlite` those that begin as files of SQLite do.
    """

    image: str
    destination: str
    command: tuple[str, ...] = ()
    environment: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    sqlite: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Database:
    """A database that lies in a volume: its name, and by what it was recognised.

    All that are known may be paused, and are by default: at any one moment what lies in the volume is what a
    power failure would leave, and they are built to come up from that. `caveat` is what that does not cover.
    """

    name: str
    because: str
    caveat: str | None = None


def recognise(facts: Facts) -> Database | None:
    """The database in the volume, if these facts tell of one.

    Files tell of the volume itself. What a container is tells only of the volumes it has where its kind keeps
    data, or that its command names: it may have others.
    """
    for kind in _KINDS:
        if because := next(kind.signs(facts), None):
            return Database(kind.name, because, kind.caveat)
    if facts.sqlite:
        return Database("SQLite", f"file {min(facts.sqlite)}")
    return None


@dataclass(frozen=True)
class _Kind:
    name: str
    image: str
    programs: tuple[str, ...]
    variables: tuple[str, ...]
    places: tuple[str, ...]
    files: tuple[str, ...]
    caveat: str | None = None

    def signs(self, facts: Facts) -> Iterator[str]:
        """Why it would be this one; nothing where it would not."""
        yield from (f"file {file}" for file in self.files if file in facts.files)
        words = [word for text in facts.command for word in text.split()]
        if not self._keeps(facts.destination, words):
            return
        if _is_server(facts.image, self.image):
            yield f"image {facts.image}"
        programs = {PurePosixPath(word).name for word in words}
        yield from (f"command {program}" for program in self.programs if program in programs)
        yield from (f"variable {name}" for name in self.variables if name in facts.environment)

    def _keeps(self, destination: str, words: list[str]) -> bool:
        """Whether a mount there would hold its data."""
        mount = PurePosixPath(destination)
        named = [word.partition("=")[2] or word for word in words]
        paths = [PurePosixPath(path) for path in (*self.places, *named) if path.startswith("/")]
        return any(path.is_relative_to(mount) or mount.is_relative_to(path) for path in paths)


_COMPANIONS = re.compile(r"export|backup|admin|proxy|pool|operator|client|commander|insight|express|web|ui$")


def _is_server(image: str, pattern: str) -> bool:
    """Whether an image, `registry:5000/some/name:tag@digest`, is called so, and is no tool for it."""
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return bool(re.search(pattern, name)) and not _COMPANIONS.search(name)


_KINDS = (
    _Kind(
        "PostgreSQL",
        r"postgres|postgis|timescale|pgvector|spilo",
        ("postgres", "postmaster"),
        ("PGDATA", "POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"),
        ("/var/lib/postgresql", "/var/lib/pgsql", "/bitnami/postgresql", "/home/postgres/pgdata"),
        ("PG_VERSION", "data/PG_VERSION", "pgdata/PG_VERSION"),
    ),
    _Kind(
        "MySQL",
        r"mysql|mariadb|percona",
        ("mysqld", "mariadbd", "mysqld_safe", "mariadbd-safe"),
        ("MYSQL_ROOT_PASSWORD", "MARIADB_ROOT_PASSWORD", "MARIADB_PASSWORD"),
        ("/var/lib/mysql", "/bitnami/mysql", "/bitnami/mariadb"),
        ("ibdata1", "data/ibdata1"),
        caveat="MyISAM tables need backupd.quiesce=stop",
    ),
    _Kind(
        "Redis",
        r"redis|valkey|keydb",
        ("redis-server", "valkey-server", "keydb-server"),
        (),
        ("/data", "/var/lib/redis", "/var/lib/valkey", "/bitnami/redis", "/bitnami/valkey"),
        ("appendonlydir", "appendonly.aof", "dump.rdb"),
    ),
    _Kind(
        "MongoDB",
        r"mongo",
        ("mongod",),
        ("MONGO_INITDB_ROOT_USERNAME", "MONGODB_ROOT_PASSWORD"),
        ("/data/db", "/data/configdb", "/var/lib/mongodb", "/var/lib/mongo", "/bitnami/mongodb"),
        ("WiredTiger", "data/db/WiredTiger"),
    ),
    _Kind(
        "etcd",
        r"^etcd",
        ("etcd",),
        ("ETCD_DATA_DIR",),
        ("/etcd-data", "/var/lib/etcd", "/bitnami/etcd", "/default.etcd"),
        ("member/wal", "default.etcd/member/wal"),
    ),
)

MARKERS = tuple(file for kind in _KINDS for file in kind.files)
"""Files that tell of a database wherever they are found."""
