"""The labels that tell a helper container from the user's own."""

from __future__ import annotations

HELPER = "backupd.helper"
INSTANCE = "backupd.instance"
RUN = "backupd.run"
PROCESS = "backupd.process"
"""Which backupd process started the helper; see `journal.PROCESS`."""
