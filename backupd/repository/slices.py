"""Where chunks lie: slices of packs (docs/FORMAT.md, "Packs")."""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple

from backupd.errors import ObjectDamaged

SNAPSHOT_ID = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}"
"""The form of a snapshot's id, and of the id of a set under gc/."""

PACK_BYTES = 4 * 1024 * 1024
"""A pack that has come to this size is full."""

PACK_LIMIT_BYTES = PACK_BYTES + 9 * 1024 * 1024
"""No pack is larger: one chunk more than is full."""

_PACK = r"packs/[^/]+/[^/]+/[^/]+/[0-9a-f]{16}\.pack"
_IS_PACK = re.compile(_PACK)
_LINE = re.compile(rf"({_PACK})@(0|[1-9][0-9]{{0,11}})\+([1-9][0-9]{{0,8}}) ([0-9a-f]{{64}})".encode())


class Slice(NamedTuple):
    """One chunk's bytes: `length` of them from `offset` on in a pack. `chunk` is the chunk's id."""

    pack: str
    offset: int
    length: int
    chunk: str

    @property
    def end(self) -> int:
        """Where the bytes end in the pack."""
        return self.offset + self.length

    def __str__(self) -> str:
        return f"{self.pack}@{self.offset}+{self.length}"

    def line(self) -> bytes:
        """The slice as a line of a chunk list, without its end."""
        return f"{self.pack}@{self.offset}+{self.length} {self.chunk}".encode()

    @classmethod
    def parse(cls, line: bytes, key: str) -> Slice:
        """The slice that a line of the object `key` names; `ObjectDamaged` where it names none."""
        match = _LINE.fullmatch(line)
        if match is None:
            raise ObjectDamaged(f"{key} is damaged: {line[:200]!r} is no slice of a pack")
        pack, offset, length, chunk = match.groups()
        return cls(pack.decode(), int(offset), int(length), chunk.decode())


def is_pack(key: str) -> bool:
    """Whether that is the key of a pack."""
    return _IS_PACK.fullmatch(key) is not None


def new_pack(owner: str) -> str:
    """A key that no pack ever had; `owner` is the `<host>/<volume>/<snapshot>` whose writer fills it."""
    return f"packs/{owner}/{secrets.token_hex(8)}.pack"


def new_list(owner: str) -> str:
    """The key of a new slice list of a writer."""
    return f"slices/{owner}/{secrets.token_hex(8)}.zst"


def owner_of(key: str) -> str:
    """Whose pack or slice list has this key: `<host>/<volume>/<snapshot>`."""
    return key.partition("/")[2].rpartition("/")[0]
