"""Which snapshot a restore is from."""

from __future__ import annotations

from argparse import Namespace

from backupd.repository import Repository
from backupd.settings import Settings
from backupd.snapshot import Manifest


def chosen_snapshot(arguments: Namespace, settings: Settings, repository: Repository) -> Manifest:
    """The one of VOLUME that --snapshot, --at and --host name.

    Without --host, the newest is of this host if it has snapshots of the volume, else of whichever has.
    """
    host = arguments.host
    if host is None and arguments.snapshot == "latest":
        host = settings.host if repository.latest_id(settings.host, arguments.volume) else None
    return repository.find(arguments.volume, arguments.snapshot, host=host, at=arguments.at)
