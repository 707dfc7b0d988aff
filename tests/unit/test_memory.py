"""Memory does not grow with the volume."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import resource, sys, threading
from backupd.progress import silent
from backupd.repository import Repository
from backupd.storage.local import LocalStorage
from pathlib import Path
import tarfile

class Members:
    def __init__(self, count, size):
        self.left, self.size, self.rest = count, size, b""
    def readinto(self, buffer):
        if not self.rest:
            if self.left < 0:
                return 0
            if self.left == 0:
                self.rest, self.left = bytes(10240), -1
            else:
                batch = []
                for _ in range(min(self.left, 500 if self.size < 10**6 else 1)):
                    self.left -= 1
                    info = tarfile.TarInfo(f"./{self.left % 1000:03}/{self.left:08}")
                    info.size = self.size
                    body = (b"%d " % self.left) * (self.size // 8)
                    batch.append(info.tobuf(tarfile.USTAR_FORMAT) + body[:self.size].ljust(-(-self.size // 512) * 512, b"."))
                self.rest = b"".join(batch)
        count = min(len(buffer), len(self.rest))
        buffer[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        return count

def save(name, count, size):
    with repository.begin(host="h", volume="v", snapshot=name) as writer:
        content = writer.store(Members(count, size), at_end=lambda: None, progress=silent, cancel=threading.Event())
        assert content.members["file"] == count
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

with LocalStorage.create(Path(sys.argv[1])) as storage:
    repository = Repository.init(storage)
    few = save("few", int(sys.argv[2]) // 10, int(sys.argv[4]))
    many = save("many", int(sys.argv[2]), int(sys.argv[4]))
    print(few, many)
    assert many < few + int(sys.argv[3]), (few, many)
    assert many < 200, many
"""


@pytest.mark.parametrize(
    ("count", "size", "growth_mb"), [(300_000, 40, 40), (300, 5_000_000, 60)], ids=["files", "bytes"]
)
def test_memory_does_not_grow_with_the_volume(
    tmp_path: object, count: int, size: int, growth_mb: int
) -> None:
    """I13: 300,000 small files, or 1.5 GB, take hardly more memory than a tenth of that, and less than 200 MB."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, f"{tmp_path}/repository", str(count), str(growth_mb), str(size)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
