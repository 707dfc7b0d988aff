"""`backupd init`."""

from __future__ import annotations

from argparse import Namespace
from contextlib import closing

from backupd.cli.output import print_json, say
from backupd.repository import Repository
from backupd.settings import Settings
from backupd.storage.location import advice, open_storage
from backupd.storage.probe import probe


def run(arguments: Namespace, settings: Settings) -> int:
    """Make the repository, and its directory if need be, on a storage that was found fit for one."""
    options = settings.s3.options
    with closing(open_storage(settings.storage, options, create=True)) as storage:
        Repository.refuse_existing(storage)
        warnings = [*probe(storage), *advice(settings.storage, options)]
        made = Repository.init(storage)
    if arguments.json:
        print_json({"storage": storage.location, "id": made.id, "warnings": warnings})
        return 0
    say(f"made a repository on {storage.location} (id {made.id})")
    for warning in warnings:
        say(f"warning: {warning}")
    return 0
