"""A repository in a directory."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Self

from backupd.errors import ObjectDamaged, ObjectNotFound, StorageError
from backupd.storage.base import CORES, Buffer, ObjectInfo, check_range, ends_early
from backupd.storage.commit import GroupCommit
from backupd.storage.diskerrors import storage_errors, translated
from backupd.storage.keys import check_key, is_key
from backupd.storage.publish import make_parents, publish, sync_directory
from backupd.storage.staging import HIDDEN, Staged, Staging

BLOCK_BYTES = 1 << 20
UNCOMMITTED_BYTES = 64 << 20


class LocalStorage:
    """Keeps each object as the file of that path under a directory, readable by its owner alone.

    `put` leaves the object in a hidden folder; a committer thread syncs batches of them and then gives each
    its final name (see docs/decisions/0001-group-commit.md), so a file under its final name is whole, also
    after a loss of power. `flush` waits for that and syncs the directories, once each, of all that this
    storage has put, found or deleted: an object that another process put a moment ago is as durable then as
    one's own.

    A failure of the committer makes `put` and `flush` raise from then on; see `GroupCommit`. Between
    processes the first to commit a key wins, and a `put` that had answered True by then keeps what the other
    one wrote. Only writers touch the directory beyond reading, so a read-only mount can be restored from.
    """

    concurrency = CORES

    def __init__(
        self,
        path: Path,
        *,
        sync: Callable[[int], None] = os.fsync,
        uncommitted_bytes: int = UNCOMMITTED_BYTES,
    ) -> None:
        self.location = str(path.absolute())
        with storage_errors("look for the storage directory", self.location):
            if not path.is_dir():
                raise StorageError(
                    f"storage directory {path} does not exist",
                    hint="is its disk mounted? to make a new repository there: backupd init",
                )
        self._root = self.location.rstrip("/")
        self._sync = sync
        self._commit = GroupCommit(
            self.location, sync=sync, publish=self._publish, limit_bytes=uncommitted_bytes
        )
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._staging: Staging | None = None
        self._touched: set[str] = set()

    @classmethod
    def create(cls, path: Path) -> LocalStorage:
        """The storage in that directory, which is made, for its owner alone, unless it exists."""
        with storage_errors("make the storage directory", str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
        return cls(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def put(self, key: str, data: Buffer) -> bool:
        return self._put(key, iter((data,)))

    def put_file(self, key: str, file: BinaryIO) -> bool:
        return self._put(key, iter(lambda: file.read(BLOCK_BYTES), b""))

    def flush(self) -> None:
        with (
            self._flushing
        ):  # the second caller must not return before the first has synced what both wait for
            self._commit.drain()
            with self._lock:
                touched, self._touched = self._touched, set()
            try:
                self._sync_directories(touched)
            except OSError as error:
                failure = translated(error, "make directories durable", self.location)
                self._commit.fail(failure)
                raise failure from error

    def exists(self, key: str) -> bool:
        if self._commit.pending(check_key(key)) is not None:
            return True
        try:
            return self._is_published(key)
        except NotADirectoryError:
            return False
        except OSError as error:
            raise translated(error, f"look for {key}", self.location) from error

    def get(self, key: str, *, limit_bytes: int) -> bytes:
        with self.open(key) as file, storage_errors(f"read {key}", self.location):
            if os.fstat(file.fileno()).st_size > limit_bytes:
                raise ObjectDamaged(f"{key} is larger than the {limit_bytes} bytes expected of it")
            return file.read()

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        check_range(offset, length)
        with self.open(key) as file, storage_errors(f"read {key}", self.location):
            data = os.pread(file.fileno(), length, offset)
        if len(data) < length:
            raise ends_early(key, offset, length)
        return data

    def open(self, key: str) -> BinaryIO:
        staged = self._commit.pending(check_key(key))
        with storage_errors(f"open {key}", self.location):
            if staged is not None:
                with suppress(FileNotFoundError):  # published in this moment: it has its final name
                    return Path(staged.path).open("rb")
            try:
                return Path(self._path(key)).open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                raise ObjectNotFound(f"no object {key} in {self.location}") from error

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder = prefix[: prefix.rfind("/") + 1]
        if not folder or is_key(folder[:-1]):
            yield from self._walk(folder, prefix)

    def delete(self, key: str) -> None:
        self._commit.settle(check_key(key))
        with storage_errors(f"delete {key}", self.location), suppress(FileNotFoundError, NotADirectoryError):
            Path(self._path(key)).unlink()
            self._touch(key)

    def close(self) -> None:
        self._commit.close()
        with self._lock:
            staging, self._staging = self._staging, None
        if staging is not None:
            staging.close()

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _put(self, key: str, blocks: Iterator[Buffer]) -> bool:
        if not self._commit.claim(check_key(key)):
            return False
        staged: Staged | None = None
        try:
            with storage_errors(f"store {key}", self.location):
                if not self._is_published(key):
                    staged = self._ready_staging().write(key, blocks)
        finally:
            self._commit.stage(key, staged)
        return staged is not None

    def _is_published(self, key: str) -> bool:
        try:
            found = os.stat(self._path(key))  # noqa: PTH116 - plain strings: this runs once a chunk
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(found.st_mode):
            raise NotADirectoryError(f"{key} is a directory")
        self._touch(key)
        return True

    def _touch(self, key: str) -> None:
        with self._lock:
            self._touched.add(key.rpartition("/")[0])

    def _ready_staging(self) -> Staging:
        with self._lock:
            if self._staging is None:
                self._staging = Staging(self._root)
            return self._staging

    def _publish(self, staged: Staged) -> None:
        target = self._path(staged.key)
        lock = self._path(f"{HIDDEN}/lock")
        with suppress(FileExistsError):  # another process was first
            try:
                publish(staged.path, target, lock)
            except FileNotFoundError:
                make_parents(self._root, staged.key)
                publish(staged.path, target, lock)
        self._touch(staged.key)

    def _sync_directories(self, touched: set[str]) -> None:
        segments = [folder.split("/") for folder in touched if folder]
        above = {"/".join(names[: depth + 1]) for names in segments for depth in range(len(names))}
        for folder in sorted(above):
            sync_directory(self._path(folder), self._sync)
        if touched:
            sync_directory(self.location, self._sync)

    def _walk(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        for name, entry in sorted(self._scan(folder).items()):
            key = folder + name
            if name.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._walk(key, prefix)
            elif key.startswith(prefix):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    yield _info(key, entry.stat())

    def _scan(self, folder: str) -> dict[str, os.DirEntry[str]]:
        """The entries that can be objects, by name; a directory ends with a slash, as its keys go on."""
        with storage_errors(f"list {folder or 'objects'}", self.location):
            try:
                with os.scandir(self._path(folder)) as entries:
                    kept = [e for e in entries if is_key(folder + e.name) and folder + e.name != "lost+found"]
            except (FileNotFoundError, NotADirectoryError):
                if not Path(self.location).is_dir():
                    raise
                return {}
            return {e.name + "/" if e.is_dir() else e.name: e for e in kept}


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
