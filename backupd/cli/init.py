"""`backupd init`."""

from __future__ import annotations

from argparse import Namespace
from contextlib import closing

from backupd.cli.output import print_json, say
from backupd.repository import Repository
from backupd.settings import Settings
from backupd.storage.location import advice, open_storage
from backupd.storage.probe import probe

_ADVICE = """the id_key is in {id_key_file}: with it this host writes snapshots, and cannot read them
  another host that shall write: copy this file to its state_dir, readable by its backupd alone
  a host that shall read: the secret key, as encryption.identity_file; it needs no id_key
  without the secret key nobody reads this repository again: keep copies of it where the data is not"""


def run(arguments: Namespace, settings: Settings) -> int:
    """Make the repository, and its directory if need be, on a storage that was found fit for one."""
    options = settings.s3.options
    with closing(open_storage(settings.storage, options, create=True)) as storage:
        Repository.refuse_existing(storage)
        warnings = [*probe(storage), *advice(settings.storage, options)]
        made = Repository.init(storage, settings.keys)
    if arguments.json:
        keys = {"id_key_file": str(settings.keys.id_key_file)} if made.encrypted else {}
        print_json({"storage": storage.location, "id": made.id, "warnings": warnings, **keys})
        return 0
    kind = "an encrypted repository" if made.encrypted else "a repository"
    say(f"made {kind} on {storage.location} (id {made.id})")
    if made.encrypted:
        say(_ADVICE.format(id_key_file=settings.keys.id_key_file))
    for warning in warnings:
        say(f"warning: {warning}")
    return 0
