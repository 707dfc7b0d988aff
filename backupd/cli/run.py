"""`backupd run`."""

from __future__ import annotations

import sys
from argparse import Namespace

from backupd import daemon, logs
from backupd.settings import Settings


def run(arguments: Namespace, settings: Settings) -> int:
    """Be the daemon."""
    logs.configure(settings.log.format, settings.log.level, sys.stderr)
    return daemon.run(settings)
