"""Every error that backupd raises on purpose.

    BackupdError                  exit 1
    ├── UsageError                exit 2   the command line or a value in it
    │   └── ConfigError                    settings, environment, labels
    ├── EngineError                        the Docker Engine said no, or nothing
    │   ├── EngineUnreachable
    │   ├── VolumeNotFound
    │   ├── VolumeInUse
    │   ├── OwnVolume                      backupd's own repository or state
    │   ├── RoomMissing                    in a volume
    │   ├── HelperFailed                   tar in the helper container
    │   ├── HelperImageUnavailable
    │   └── QuiesceFailed
    ├── StorageError                       named bytes could not be kept or fetched
    │   ├── ObjectNotFound
    │   ├── StorageFull
    │   └── StorageUnavailable             it may work in a moment
    ├── RepositoryError
    │   ├── RepositoryMissing
    │   ├── RepositoryUnsupported
    │   ├── KeyMissing                     encrypted, and the key for this is not here
    │   ├── WrongKey
    │   ├── Undecryptable                  no age file that keys here open; told as one of the others
    │   └── SnapshotNotFound
    ├── IntegrityError            exit 4   bytes are not what they were
    │   ├── ObjectDamaged
    │   ├── ProofFailed                    what was restored is not what was saved
    │   └── StreamRejected                 a tar stream that is cut or malformed
    ├── DaemonUnreachable                  no daemon answers on the socket of the state directory
    ├── PartFailed                exit 3   some of several volumes failed
    ├── Locked                    exit 75
    └── Interrupted               exit 130

A message is lower case, without a full stop: what failed, on which thing. The hint says what to do next.
"""

from __future__ import annotations


class BackupdError(Exception):
    """Something failed for a reason that a person can be told: `message`, and what to do about it: `hint`."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BackupdError):
    """The command cannot be understood as it was given."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting, an environment variable or a label has a name or a value that makes no sense."""


class EngineError(BackupdError):
    """The Docker Engine refused or failed a request."""


class EngineUnreachable(EngineError):
    """No Docker Engine answers."""


class VolumeNotFound(EngineError):
    """The engine has no volume of that name."""


class VolumeInUse(EngineError):
    """Containers use the volume, or it holds files, and the operation needs it to be free."""


class OwnVolume(EngineError):
    """The volume holds backupd's own repository or state."""


class RoomMissing(EngineError):
    """A volume has too little room for what is to be restored into it."""


class HelperFailed(EngineError):
    """The helper container ended badly."""


class HelperImageUnavailable(EngineError):
    """No image for the helper container can be had."""


class QuiesceFailed(EngineError):
    """A container could not be calmed, or not be woken."""


class StorageError(BackupdError):
    """The storage could not keep or return an object."""


class ObjectNotFound(StorageError):
    """The storage has no object of that key."""


class StorageFull(StorageError):
    """The storage has no room left."""


class StorageUnavailable(StorageError):
    """The storage did not answer, or asked for patience; the same call may succeed in a moment."""


class RepositoryError(BackupdError):
    """The repository cannot serve the request."""


class RepositoryMissing(RepositoryError):
    """The storage holds no repository."""


class RepositoryUnsupported(RepositoryError):
    """The repository was written in a format that this version does not know."""


class KeyMissing(RepositoryError):
    """The repository is encrypted, and the key that this takes is not here."""


class WrongKey(RepositoryError):
    """A key that is here does not belong to the repository."""


class Undecryptable(RepositoryError):
    """The bytes are no age file that these identities or this passphrase open."""


class SnapshotNotFound(RepositoryError):
    """No snapshot matches."""


class IntegrityError(BackupdError):
    """Bytes are not what they were when they were stored."""

    exit_code = 4


class ObjectDamaged(IntegrityError):
    """A stored object does not match its hash or its form."""


class StreamRejected(IntegrityError):
    """A tar stream is cut short or malformed."""


class ProofFailed(IntegrityError):
    """What lies in a volume is not what a snapshot holds."""


class DaemonUnreachable(BackupdError):
    """No daemon answers on the socket of the state directory."""


class PartFailed(BackupdError):
    """Some of several volumes failed, the others are done."""

    exit_code = 3


class Locked(BackupdError):
    """Another process holds what this one needs."""

    exit_code = 75


class Interrupted(BackupdError):
    """The operation was told to stop and left everything as it was."""

    exit_code = 130
