"""`backupd restore VOLUME --path … --output DIR`: files of a snapshot, without an engine."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from dataclasses import asdict

import structlog

from backupd.cli.choice import chosen_snapshot
from backupd.cli.output import print_json, say
from backupd.cli.progress import cancellable, shown
from backupd.cli.words import size
from backupd.opening import opened
from backupd.operations.parts import select
from backupd.operations.unpack import unpack
from backupd.settings import Settings

log = structlog.get_logger(__name__)


def run(arguments: Namespace, settings: Settings) -> int:
    """Say what was chosen, and extract it into a new directory."""
    cancel = threading.Event()
    with opened(settings, cancel) as repository, cancellable(cancel):
        manifest = chosen_snapshot(arguments, settings, repository)
        reader = repository.reader(manifest)
        reader.check_readable()
        selection = select(reader, arguments.path)
        say(
            f"{selection.members} files and directories, {size(selection.size_bytes)}, "
            f"of snapshot {manifest.snapshot} of {manifest.volume.name} on {manifest.host}"
        )
        for linked in sorted(selection.along):
            say(f"  note: {linked.decode(errors='replace')} comes along, a hard link leads to it")
        if arguments.dry_run:
            return 0
        with shown(manifest.volume.name) as progress:
            done = unpack(reader, selection, arguments.output, progress=progress, cancel=cancel)
    log.info("files restored", snapshot=manifest.snapshot, directory=str(arguments.output), **asdict(done))
    if arguments.json:
        print_json({"snapshot": manifest.snapshot, "directory": str(arguments.output), **asdict(done)})
    elif sys.stderr.isatty():
        say(f"they are in {arguments.output}")
    if not done.owners_kept:
        say("note: owners could not be kept: only root may give files away")
    return 0
