"""`backupd init`."""

from __future__ import annotations

from argparse import Namespace

from backupd.cli.output import print_json, say
from backupd.repository import Repository
from backupd.settings import Settings
from backupd.storage.location import open_storage


def run(arguments: Namespace, settings: Settings) -> int:
    """Make the repository, and its directory if need be."""
    storage = open_storage(settings.storage, create=True)
    repository = Repository.init(storage)
    if arguments.json:
        print_json({"storage": storage.location, "id": repository.id})
    else:
        say(f"made a repository on {storage.location} (id {repository.id})")
    return 0
