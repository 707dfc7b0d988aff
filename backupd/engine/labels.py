"""The labels that tell a helper container from the user's own."""

from __future__ import annotations

HELPER = "backupd.helper"
HOLD = "backupd.hold"
"""On a container that never runs: the volume for whose sake it is there."""
INSTANCE = "backupd.instance"
RUN = "backupd.run"
PROCESS = "backupd.process"
"""Which backupd process started the helper; see `journal.PROCESS`."""
