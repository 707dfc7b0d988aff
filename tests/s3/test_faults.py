"""What goes wrong with a server: every failure is named, the passing ones are survived."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from io import BytesIO

import pytest

from backupd.errors import ObjectNotFound, StorageError, StorageFull, StorageUnavailable
from backupd.storage.base import Storage
from backupd.storage.retry import RetryingStorage
from backupd.storage.s3 import S3Storage
from tests.s3.account import Account
from tests.s3.ceph import Ceph, free_ports
from tests.s3.proxy import Proxy

pytestmark = pytest.mark.s3
KEY = "chunks/ab/abcd.zst"
PART = 5 << 20


@pytest.fixture
def proxy(ceph: Ceph) -> Iterator[Proxy]:
    """The server behind a network that can break."""
    with Proxy(ceph.port) as proxy:
        yield proxy


@pytest.fixture
def own(ceph: Ceph) -> Account:
    """A user whose keys a test may spoil."""
    return Account(ceph.endpoint, ceph.user("--max-buckets=0"))


def refusals(storage: Storage, *, but: str = "") -> Iterator[StorageError]:
    """The error of every method, none of which may be foreign."""
    calls = {
        "put": lambda: storage.put(KEY, b"x"),
        "put_file": lambda: storage.put_file(KEY, BytesIO(bytes(PART + 1))),
        "exists": lambda: storage.exists(KEY),
        "get": lambda: storage.get(KEY, limit_bytes=1),
        "open": lambda: storage.open(KEY),
        "list": lambda: list(storage.list()),
        "delete": lambda: storage.delete(KEY),
    }
    for name in calls.keys() - {but}:
        with pytest.raises(StorageError) as caught:
            calls[name]()
        assert caught.value.hint
        assert storage.location in caught.value.message
        yield caught.value


def test_wrong_secret_key_is_named(account: Account) -> None:
    """A 403 for a signature says which setting is wrong, and shows no secret."""
    storage = account.storage("p", secret_key="wrong-secret", part_bytes=PART)
    for error in refusals(storage):
        assert "secret key does not fit" in error.message
        assert "s3.secret_key" in (error.hint or "")
        assert "wrong-secret" not in f"{error.message} {error.hint} {error.__cause__!r}"


def test_unknown_access_key_is_named(account: Account) -> None:
    """So is a key that the server does not know."""
    for error in refusals(account.storage(access_key="NOBODY", part_bytes=PART)):
        assert "does not know the access key" in error.message


def test_missing_bucket_is_named(account: Account) -> None:
    """Nothing is made, and the way out is said."""
    storage = account.storage(bucket=f"nobody-made-{uuid.uuid4().hex}", part_bytes=PART)
    assert not storage.exists(KEY)
    for error in refusals(storage, but="exists"):
        assert "no such bucket" in error.message
        assert not isinstance(error, StorageUnavailable | ObjectNotFound)


def test_bucket_that_is_deleted_meanwhile_is_no_empty_storage(own: Account) -> None:
    """R9: a listing that cannot be made raises; it is never short."""
    bucket = own.bucket()
    storage = own.storage(bucket=bucket)
    assert list(storage.list()) == []
    own.client.delete_bucket(Bucket=bucket)
    with pytest.raises(StorageError, match="no such bucket"):
        list(storage.list())


def test_keys_withdrawn_in_the_middle_fail_at_once(ceph: Ceph, own: Account) -> None:
    """R10: no retry helps against that, and what was stored before is whole."""
    inner = own.storage()
    storage = RetryingStorage(inner, sleep=lambda seconds: pytest.fail("waited"))
    storage.put(KEY, b"before")
    fresh = ceph.more_keys(own.keys)
    ceph.remove_key(own.keys)
    with pytest.raises(StorageError, match="does not know the access key"):
        storage.put("chunks/ab/after", b"x")
    again = Account(ceph.endpoint, fresh).storage(bucket=inner.location.removeprefix("s3://"))
    assert [info.key for info in again.list()] == [KEY]
    assert again.get(KEY, limit_bytes=6) == b"before"


def test_full_quota_is_a_full_storage(ceph: Ceph, own: Account) -> None:
    """R1: said as what it is, so that nobody looks for a broken network."""
    storage = own.storage()
    storage.put(KEY, b"before")
    ceph.admin("quota", "set", "--quota-scope=user", f"--uid={own.keys.user}", "--max-objects=1")
    ceph.admin("quota", "enable", "--quota-scope=user", f"--uid={own.keys.user}")
    with pytest.raises(StorageFull, match="quota"):
        _in_turn(lambda number: storage.put(f"chunks/ab/{number}", b"x"))
    assert storage.get(KEY, limit_bytes=6) == b"before"


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://127.0.0.1:{free}", "refuses connections"),
        ("http://no-such-host.invalid", "cannot be found"),
        ("https://127.0.0.1:{port}", "certificate is not accepted"),
    ],
)
def test_wrong_address_is_named(ceph: Ceph, account: Account, endpoint: str, said: str) -> None:
    """Refused, unknown, or no TLS: each in words, with the address."""
    address = endpoint.format(port=ceph.port, free=free_ports(1)[0])
    storage = account.storage(bucket="any-bucket", endpoint=address, part_bytes=PART)
    for error in refusals(storage):
        assert said in error.message
        assert "s3.endpoint" in (error.hint or "")


def test_answer_that_is_lost_is_asked_for_again(account: Account, proxy: Proxy) -> None:
    """R6: the put was carried out, the connection reset, and the retry counts it as stored."""
    waits: list[float] = []
    with closing(account.storage(endpoint=proxy.endpoint)) as inner:
        storage = RetryingStorage(inner, sleep=waits.append)
        assert storage.put("first", b"")
        proxy.lose_answers(1)
        assert storage.put(KEY, b"content") is True
        assert len(waits) == 1
        assert storage.get(KEY, limit_bytes=7) == b"content"


def test_reset_while_reading_is_resumed(account: Account, proxy: Proxy) -> None:
    """R6: neither `get` nor `open` returns a part, nor a byte twice."""
    content = bytes(range(256)) * 40_000
    with closing(account.storage(endpoint=proxy.endpoint)) as inner:
        inner.put(KEY, content)
        proxy.cut()
        proxy.cut_answer_after(3_000_000)
        with pytest.raises(StorageUnavailable, match="broke off"):
            inner.get(KEY, limit_bytes=len(content))
        storage = RetryingStorage(inner, sleep=lambda seconds: None)
        proxy.cut_answer_after(3_000_000)
        assert storage.get(KEY, limit_bytes=len(content)) == content
        proxy.cut_answer_after(3_000_000)
        with storage.open(KEY) as file:
            assert file.read() == content


def test_connections_that_went_stale_are_replaced(account: Account, proxy: Proxy) -> None:
    """R6: every pooled connection is reset at once, while sixteen threads put."""
    keys = [f"chunks/ab/{number:03}" for number in range(200)]
    with closing(account.storage(endpoint=proxy.endpoint)) as inner:
        storage = RetryingStorage(inner, sleep=lambda seconds: None)
        _in_threads(lambda key: storage.put(key, key.encode()), keys[:100])
        proxy.cut()
        _in_threads(lambda key: storage.put(key, key.encode()), keys[100:])
        assert [info.key for info in storage.list()] == keys
        assert all(storage.get(key, limit_bytes=100) == key.encode() for key in keys)


def test_upload_that_fails_is_aborted(account: Account) -> None:
    """R8: a large object whose source breaks leaves no parts behind."""

    class Broken(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() >= PART:
                raise OSError("disk")
            return super().read(size)

    storage = account.storage(part_bytes=PART)
    with pytest.raises(OSError, match="disk"):
        storage.put_file(KEY, Broken(bytes(3 * PART)))
    assert not storage.exists(KEY)
    assert _unfinished(account, storage) == []


def test_leftover_uploads_are_aborted_before_the_next(account: Account) -> None:
    """R8: those of writers that died, not those that others are at, nor those of other prefixes."""
    bucket = account.bucket()
    for key in ("p/old", "other/old"):
        account.client.create_multipart_upload(Bucket=bucket, Key=key)
    data = bytes(PART + 1)
    account.storage("p", bucket=bucket, part_bytes=PART).put_file("a", BytesIO(data))
    # The server's clock comes without fractions of a second: what began in this one is younger than nothing.
    storage = account.storage("p", bucket=bucket, part_bytes=PART, leftover=timedelta(seconds=-1))
    assert _unfinished(account, storage) == ["other/old", "p/old"]
    assert storage.put_file("b", BytesIO(data))
    assert _unfinished(account, storage) == ["other/old"]
    assert [info.key for info in storage.list()] == ["a", "b"]


def test_second_upload_in_parts_changes_nothing(account: Account) -> None:
    """R7: what two writers race for is decided when the parts are put together."""
    storage = account.storage(part_bytes=PART)

    class Rival(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            storage.put(KEY, b"rival")
            return super().read(size)

    first = BytesIO(bytes(PART))
    first.read = Rival(bytes(PART + 1)).read  # type: ignore[method-assign]
    assert storage.put_file("other", BytesIO(bytes(PART))) is True
    assert storage.put_file(KEY, first) is False
    assert storage.get(KEY, limit_bytes=5) == b"rival"
    assert _unfinished(account, storage) == []


def _unfinished(account: Account, storage: S3Storage) -> list[str]:
    bucket = storage.location.removeprefix("s3://").partition("/")[0]
    return [each["Key"] for each in account.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def _in_turn(work: Callable[[int], object]) -> None:
    for number in range(200):
        work(number)


def _in_threads(work: Callable[[str], object], keys: list[str]) -> None:
    failures: list[BaseException] = []

    def run(mine: list[str]) -> None:
        try:
            for key in mine:
                work(key)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(keys[number::16],)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
