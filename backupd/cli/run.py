"""`backupd run`."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from backupd import daemon, logs
from backupd.settings import Settings, load


def run(arguments: Namespace, settings: Settings) -> int:
    """Be the daemon."""
    _heard(settings)
    return daemon.run(settings, lambda: _heard(load(arguments.config, os.environ)))


def _heard(settings: Settings) -> Settings:
    logs.configure(settings.log.format, settings.log.level, sys.stderr)
    return settings
