"""Chunks of an encrypted repository: an age file of a padded zstd frame, named by a keyed hash."""

from __future__ import annotations

import hmac

from backupd.errors import ObjectDamaged
from backupd.repository.encryption.encryption import Encryption
from backupd.repository.stream.codec import CHUNK_LIMIT_BYTES, Codec
from backupd.repository.stream.padding import after_padding, padding_frame
from backupd.storage.base import Buffer


class SealedCodec(Codec):
    """How an encrypted repository names and wraps the content of its chunks; any thread may use it."""

    limit_bytes = CHUNK_LIMIT_BYTES + CHUNK_LIMIT_BYTES // 8
    """Padding adds 3 % to a large frame; age 16 bytes to each 64 KiB, and a header with all recipients."""

    def __init__(self, encryption: Encryption) -> None:
        super().__init__()
        self._encryption = encryption
        # Copied for each chunk: as fast as a plain hash, which hmac.digest is not, and it lets threads run.
        self._keyed = hmac.new(encryption.derive("chunk"), digestmod="sha256")

    def identify(self, data: Buffer) -> str:
        """The id of a chunk of this content: HMAC-SHA256, so that nobody without the key can guess it."""
        keyed = self._keyed.copy()
        keyed.update(data)
        return keyed.hexdigest()

    def encode(self, data: Buffer) -> Buffer:
        """The age file that holds `data`; `Codec.encode` and `Encryption.encrypt` say what is compared."""
        frame = super().encode(data)
        return self._encryption.encrypt(b"".join((padding_frame(len(frame)), frame)))

    def decode(self, frame: Buffer, *, chunk: str, key: str) -> bytes:
        """The content of the chunk of id `chunk`, kept under `key`; `ObjectDamaged` if it is not that."""
        padded = after_padding(self._encryption.decrypt(bytes(frame), key=key))
        if padded is None:
            raise ObjectDamaged(f"{key} is damaged: it does not begin with padding")
        return super().decode(padded, chunk=chunk, key=key)
