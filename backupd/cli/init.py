"""`backupd init`."""

from __future__ import annotations

from argparse import Namespace
from contextlib import closing

from backupd.cli.output import print_json, say
from backupd.repository import Repository
from backupd.settings import Settings
from backupd.storage.location import open_storage


def run(arguments: Namespace, settings: Settings) -> int:
    """Make the repository, and its directory if need be."""
    with closing(open_storage(settings.storage, create=True)) as storage:
        made = Repository.init(storage)
    if arguments.json:
        print_json({"storage": storage.location, "id": made.id})
    else:
        say(f"made a repository on {storage.location} (id {made.id})")
    return 0
