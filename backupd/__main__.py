"""`python -m backupd` is `backupd`."""

from __future__ import annotations

import sys

from backupd.cli import main

sys.exit(main())
