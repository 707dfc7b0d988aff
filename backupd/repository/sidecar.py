"""Sidecars: objects of many lines, compressed as they are written, of any length in little memory."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Generator, Iterator
from typing import IO, BinaryIO, cast

import zstandard

from backupd.errors import ObjectDamaged
from backupd.repository.encryption.encryption import Encryption
from backupd.repository.stream.padding import padding_frame
from backupd.storage.base import Storage

_LEVEL = 3
_BLOCK = 256 * 1024
_IN_MEMORY = 4 * 1024 * 1024
LINE_LIMIT_BYTES = 1024 * 1024


class SidecarWriter:
    """A context that takes lines, and in the end puts them into a storage as one zstd stream.

    With `encryption` what is stored is an age file of that stream, padded.
    """

    def __init__(self, encryption: Encryption | None = None) -> None:
        self._encryption = encryption
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  closed by __exit__
        self._hash = hashlib.sha256()
        self._lines: list[bytes] = []
        self._size = 0

    def __enter__(self) -> SidecarWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, line: bytes) -> None:
        """Append a line; its end is added."""
        self.extend(line + b"\n")

    def extend(self, lines: bytes) -> None:
        """Append any number of lines, each with its end."""
        self._lines.append(lines)
        self._size += len(lines)
        if self._size >= _BLOCK:
            self._write(self._compressor.compress(self._take()))

    def put(self, storage: Storage, key: str) -> str:
        """Store the sidecar, and return the SHA-256 of what was stored; nothing can be added after it."""
        self._write(self._compressor.compress(self._take()))
        self._write(self._compressor.flush())
        if self._encryption is None:
            self._file.seek(0)
            storage.put_file(key, cast(BinaryIO, self._file))
            return self._hash.hexdigest()
        self._file.write(padding_frame(self._file.tell()))
        self._file.seek(0)
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as sealed:
            self._encryption.encrypt_stream(self._file, sealed)
            sealed.seek(0)
            sha256 = hashlib.file_digest(cast(io.BufferedIOBase, sealed), "sha256").hexdigest()
            sealed.seek(0)
            storage.put_file(key, cast(BinaryIO, sealed))
        return sha256

    def _take(self) -> bytes:
        lines = b"".join(self._lines)
        self._lines, self._size = [], 0
        return lines

    def _write(self, compressed: bytes) -> None:
        self._hash.update(compressed)
        self._file.write(compressed)


def read_lines(
    storage: Storage, key: str, *, sha256: str, encryption: Encryption | None = None
) -> Generator[bytes, None, None]:
    """The lines of a sidecar without their ends, none before the whole was found to have that SHA-256."""
    with (
        tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as stored,
        tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as opened,
    ):
        _fetch(storage, key, sha256, stored)
        spool: IO[bytes] = stored
        if encryption:
            encryption.decrypt_stream(stored, opened, key=key)
            opened.seek(0)
            spool = opened
        yield from lines_of(spool, key)


def lines_of(stored: IO[bytes], key: str) -> Iterator[bytes]:
    """The lines, without their ends, of the zstd stream in a file; `ObjectDamaged` if there is none."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(stored) as stream:
            lines = io.BufferedReader(stream)
            while line := lines.readline(LINE_LIMIT_BYTES):
                if not line.endswith(b"\n"):
                    raise ObjectDamaged(f"{key} is damaged: a line without an end")
                yield line[:-1]
    except zstandard.ZstdError as error:
        raise ObjectDamaged(f"{key} is damaged: {error}") from error


def check_stored(storage: Storage, key: str, *, sha256: str) -> None:
    """`ObjectDamaged` unless the sidecar has that SHA-256 as stored."""
    _fetch(storage, key, sha256, None)


def _fetch(storage: Storage, key: str, sha256: str, spool: IO[bytes] | None) -> None:
    digest = hashlib.sha256()
    with storage.open(key) as stored:
        while block := stored.read(_BLOCK):
            digest.update(block)
            if spool is not None:
                spool.write(block)
    if digest.hexdigest() != sha256:
        raise ObjectDamaged(
            f"{key} is damaged: it has another hash than its manifest says",
            hint="choose another snapshot, or bring this object back from a copy of the repository",
        )
    if spool is not None:
        spool.seek(0)
