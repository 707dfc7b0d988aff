"""The durable record of what backupd has changed in the user's system.

Every process keeps a file of its own in the journal's directory and holds a lock on it while it lives: a file
that nobody holds tells what a dead process has left behind. A line is one change, or the end of one.
"""

from __future__ import annotations

import uuid

PROCESS = uuid.uuid4().hex
"""This process: its journal files are named after it, its helpers are labelled with it."""
