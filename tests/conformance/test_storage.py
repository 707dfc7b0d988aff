"""What every storage promises, one behaviour a test."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest

from backupd.errors import ObjectDamaged, ObjectNotFound, UsageError
from backupd.storage.base import Storage

KEY = "chunks/ab/abcd.zst"
LIMIT = 1 << 20

ODD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/../b",
    "../a",
    "a/.",
    "./a",
    ".hidden/a",
    "a\0b",
    "a\nb",
    "a\x7f",
    "a\n",
    "\udc80",
    "x" * 256,
    "é" * 128,
    "/".join(["x" * 200] * 6),
]
PLAIN_KEYS = ["a", "a.b/c", "a/..b", "a/.b", "a/b c", "ü/☃", "-", "~", "a\\b", "x" * 255, "é" * 127]


def keys(storage: Storage, prefix: str = "") -> list[str]:
    return [info.key for info in storage.list(prefix)]


def test_missing_object_is_not_found(storage: Storage) -> None:
    """`exists` says no, `get` and `open` raise, and the error names the key."""
    assert not storage.exists(KEY)
    with pytest.raises(ObjectNotFound, match=KEY):
        storage.get(KEY, limit_bytes=LIMIT)
    with pytest.raises(ObjectNotFound, match=KEY):
        storage.open(KEY)


def test_folder_of_keys_is_no_object(storage: Storage) -> None:
    """A leading part of a key is not an object itself."""
    storage.put(KEY, b"x")
    storage.flush()
    assert not storage.exists("chunks")
    assert not storage.exists(f"{KEY}/below")
    with pytest.raises(ObjectNotFound):
        storage.open("chunks/ab")


def test_empty_storage_lists_nothing(storage: Storage) -> None:
    """No object, no line, and no error for a prefix that leads nowhere."""
    assert keys(storage) == []
    assert keys(storage, "chunks/") == []
    assert keys(storage, "../") == []


def test_range_is_those_bytes_and_no_others(storage: Storage) -> None:
    """A part of an object, from its first byte to its last, before the flush and after it."""
    data = bytes(range(256)) * 40
    storage.put(KEY, data)
    for _ in range(2):
        for offset, length in [(0, 1), (0, len(data)), (255, 300), (len(data) - 1, 1)]:
            assert storage.get_range(KEY, offset, length) == data[offset : offset + length]
        storage.flush()


@pytest.mark.parametrize(("offset", "length"), [(99, 2), (100, 1), (0, 101), (1000, 1000)])
def test_range_beyond_the_end_is_damage(storage: Storage, offset: int, length: int) -> None:
    """Never fewer bytes than were asked for."""
    storage.put(KEY, bytes(100))
    with pytest.raises(ObjectDamaged, match=KEY):
        storage.get_range(KEY, offset, length)


def test_range_of_nothing(storage: Storage) -> None:
    """A missing object is not found, an empty one has no range; no range has no bytes."""
    with pytest.raises(ObjectNotFound, match=KEY):
        storage.get_range(KEY, 0, 1)
    storage.put(KEY, b"")
    with pytest.raises(ObjectDamaged, match=KEY):
        storage.get_range(KEY, 0, 1)
    for offset, length in [(0, 0), (0, -1), (-1, 1)]:
        with pytest.raises(ValueError, match="no range"):
            storage.get_range(KEY, offset, length)


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000], ids=["empty", "byte", "megabyte"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_put_object_comes_back(storage: Storage, data: bytes, kind: type[bytes]) -> None:
    """Any buffer returns byte for byte, before the flush and after it."""
    assert storage.put(KEY, kind(data)) is True
    for _ in range(2):
        assert storage.exists(KEY)
        assert storage.get(KEY, limit_bytes=len(data)) == data
        with storage.open(KEY) as file:
            assert file.read() == data
        storage.flush()


def test_put_takes_its_own_copy(storage: Storage) -> None:
    """The caller may reuse its buffer as soon as `put` has returned."""
    buffer = bytearray(b"first")
    storage.put(KEY, buffer)
    buffer[:] = b"later"
    storage.flush()
    assert storage.get(KEY, limit_bytes=LIMIT) == b"first"


@pytest.mark.parametrize("flushed", [False, True])
def test_second_put_keeps_the_first_bytes(storage: Storage, flushed: bool) -> None:
    """An object is never replaced, and the second put says that it stored nothing."""
    assert storage.put(KEY, b"first") is True
    if flushed:
        storage.flush()
    assert storage.put(KEY, b"second") is False
    assert storage.put_file(KEY, BytesIO(b"third")) is False
    storage.flush()
    assert storage.get(KEY, limit_bytes=LIMIT) == b"first"


def test_flushed_objects_are_listed_with_size_and_time(storage: Storage) -> None:
    """A listing tells each object's size and when it was written, in UTC."""
    storage.put(KEY, b"12345")
    storage.flush()
    (info,) = storage.list()
    assert (info.key, info.size_bytes) == (KEY, 5)
    assert info.modified.tzinfo is UTC
    assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=5)


def test_list_is_in_key_order_and_by_any_prefix(storage: Storage) -> None:
    """Keys come sorted as strings, across folders, and a prefix need not end at a slash."""
    stored = ["a-b/x", "a/x", "a.b", "a/y/z", "ab/c", "b", "a/x0", "ü/1"]
    for key in stored:
        storage.put(key, b"")
    storage.flush()
    assert keys(storage) == sorted(stored)
    for prefix in ["a", "a/", "a/x", "a-", "ab/c", "a/y/", "c", "a//", "."]:
        assert keys(storage, prefix) == sorted(k for k in stored if k.startswith(prefix))


def test_delete_twice_is_no_error(storage: Storage) -> None:
    """A deleted object is absent, may be deleted again, and may be put anew."""
    storage.delete(KEY)
    for flushed in (False, True):
        assert storage.put(KEY, b"x") is True
        if flushed:
            storage.flush()
        storage.delete(KEY)
        storage.delete(KEY)
        assert not storage.exists(KEY)
    storage.flush()
    assert keys(storage) == []


def test_get_refuses_more_than_the_limit(storage: Storage) -> None:
    """A larger object than expected is damage, not a reason to fill the memory."""
    storage.put(KEY, b"12345")
    assert storage.get(KEY, limit_bytes=5) == b"12345"
    with pytest.raises(ObjectDamaged, match=KEY):
        storage.get(KEY, limit_bytes=4)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_key_is_refused_by_every_method(storage: Storage, key: str) -> None:
    """No key can reach outside the storage or break a list of keys."""
    for call in (
        lambda: storage.put(key, b""),
        lambda: storage.put_file(key, BytesIO()),
        lambda: storage.exists(key),
        lambda: storage.get(key, limit_bytes=1),
        lambda: storage.open(key),
        lambda: storage.delete(key),
    ):
        with pytest.raises(UsageError):
            call()


@pytest.mark.parametrize("key", PLAIN_KEYS)
def test_unusual_but_plain_key_is_kept(storage: Storage, key: str) -> None:
    """Spaces, dots and any letters are fine."""
    storage.put(key, b"x")
    storage.flush()
    assert keys(storage) == [key]


def test_put_file_stores_the_rest_of_a_large_file(storage: Storage) -> None:
    """Reading starts where the file stands, and goes on to its end."""
    data = bytes(range(256)) * (5 << 12) + b"tail"
    file = BytesIO(b"skipped" + data)
    file.seek(len(b"skipped"))
    assert storage.put_file(KEY, file) is True
    storage.flush()
    with storage.open(KEY) as stored:
        assert stored.read() == data


def test_one_of_sixteen_racing_puts_wins(storage: Storage) -> None:
    """Exactly one call answers True, and its bytes are the ones that stay."""
    for turn in range(10):
        key, start = f"race/{turn}", threading.Barrier(16)

        def put(number: int, key: str = key, start: threading.Barrier = start) -> bool:
            start.wait()
            return storage.put(key, bytes([number]) * 10_000)

        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(put, range(16)))
        assert won.count(True) == 1
        assert storage.get(key, limit_bytes=LIMIT) == bytes([won.index(True)]) * 10_000
        storage.flush()
        assert storage.get(key, limit_bytes=LIMIT) == bytes([won.index(True)]) * 10_000


def test_concurrent_readers_never_see_a_part(storage: Storage) -> None:
    """While objects are put and flushed, what is there is whole, and what was seen stays."""
    size, names = 300_000, [f"chunks/{n:02x}" for n in range(40)]
    done = threading.Event()

    def read() -> None:
        seen: set[str] = set()
        while not done.is_set():
            for name in names:
                if storage.exists(name):
                    assert len(storage.get(name, limit_bytes=LIMIT)) == size
                    seen.add(name)
                else:
                    assert name not in seen
            assert all(info.size_bytes == size for info in storage.list())

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for number, name in enumerate(names):
            storage.put(name, bytes([number]) * size)
            if number % 7 == 0:
                storage.flush()
        storage.flush()
        done.set()
        for reader in readers:
            reader.result()


def test_threads_flush_their_own_objects(storage: Storage) -> None:
    """When a thread's flush returns, what it put is listed, whatever the others do meanwhile."""

    def work(thread: int) -> None:
        for number in range(20):
            storage.put(f"t{thread}/{number}", b"x" * 1000)
            storage.flush()
            assert f"t{thread}/{number}" in keys(storage, f"t{thread}/")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
