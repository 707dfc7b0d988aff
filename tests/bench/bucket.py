"""The contest in front of an S3 server: restic and backupd, each with a bucket of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.contenders import Restic, wrapped
from tests.bench.contest import Make
from tests.bench.measure import Usage
from tests.bench.own import Backupd
from tests.bench.workshop import BenchError, Workshop
from tests.keys import age_pair
from tests.s3.account import Account
from tests.s3.ceph import Ceph
from tests.s3.fetched import fetch
from tests.s3.proxy import Proxy


class ResticInS3(Restic):
    """restic with its defaults for S3: five connections, and encryption, as always."""

    def __init__(self, shop: Workshop, directory: Path, binary: Path, server: Server) -> None:
        super().__init__(shop, directory, binary)
        self._server, self._bucket = server, server.account.bucket()

    def stored_bytes(self) -> int:
        return self._server.stored_bytes(self._bucket)

    def requests(self) -> int:
        return self._server.requests()

    def _restic(self, command: Sequence[str], mounts: Sequence[str]) -> Usage:
        account = self._server.account
        env = {
            "RESTIC_PASSWORD": "bench",
            "RESTIC_REPOSITORY": f"s3:{account.endpoint}/{self._bucket}",
            "RESTIC_CACHE_DIR": "/cache",
            "AWS_ACCESS_KEY_ID": account.keys.access_key,
            "AWS_SECRET_ACCESS_KEY": account.keys.secret_key,
        }
        own = [f"{self._binary}:/bin/restic:ro", f"{self._cache}:/cache"]
        return wrapped(self._shop, ["/bin/restic", *command], [*own, *mounts], env, "--network=host")


class BackupdInS3(Backupd):
    """backupd with an encrypted repository in a bucket."""

    def __init__(self, shop: Workshop, directory: Path, server: Server) -> None:
        super().__init__(shop, directory)
        self._server, self._bucket = server, server.account.bucket()
        self._pair = age_pair(directory)

    def stored_bytes(self) -> int:
        return self._server.stored_bytes(self._bucket)

    def requests(self) -> int:
        return self._server.requests()

    def _settings(self) -> dict[str, object]:
        account = self._server.account
        return {
            **super()._settings(),
            "storage": f"s3://{self._bucket}/bench",
            "s3.endpoint": account.endpoint,
            "s3.access_key": account.keys.access_key,
            "s3.secret_key": account.keys.secret_key,
            "encryption.recipients": [self._pair.recipient],
            "encryption.identity_file": str(self._pair.identity_file),
        }


class Server:
    """The S3 server of a run, at an address where restic can use it as well."""

    def __init__(self, ceph: Ceph, endpoint: str) -> None:
        self._ceph = ceph
        self.account = Account(endpoint, ceph.user("--max-buckets=0"))

    def stored_bytes(self, bucket: str) -> int:
        """The sum of the sizes of a bucket's objects."""
        return sum(info.size_bytes for info in self.account.storage(bucket=bucket).list())

    def requests(self) -> int:
        """How many requests the server has answered so far."""
        return self._ceph.requests()


@contextmanager
def serving(shop: Workshop, cache: Path) -> Iterator[Server]:
    """A server for as long as the context; `BenchError` where it cannot be had."""
    if not fetch("fetch"):
        raise BenchError("there is no S3 server to be had on this machine: see what tests/s3/fetch says")
    with (
        Ceph(cache / "ceph", shop.directory("ceph")) as ceph,
        Proxy(ceph.port, say=_without_type) as proxy,
    ):
        yield Server(ceph, proxy.endpoint)


def _without_type(block: bytes) -> bytes:
    """restic sends a header that it does not sign, and this version of Ceph refuses that: rename it."""
    return block.replace(b"\r\nContent-Type:", b"\r\nX-Ignored-By:")


def field_in_s3(server: Server, restic: Path | None) -> dict[str, Make | None]:
    """The tools that compete there; None where one could not be had."""
    return {
        "restic": (lambda shop, path: ResticInS3(shop, path, restic, server)) if restic else None,
        "backupd": lambda shop, path: BackupdInS3(shop, path, server),
    }
