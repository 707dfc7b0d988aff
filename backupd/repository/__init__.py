"""Snapshots on a storage: format 1 of docs/FORMAT.md."""

from backupd.repository.encryption.keys import Keys
from backupd.repository.reader import SnapshotReader
from backupd.repository.repository import Repository
from backupd.repository.writer import Content, SnapshotWriter

__all__ = ["Content", "Keys", "Repository", "SnapshotReader", "SnapshotWriter"]
