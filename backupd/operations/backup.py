"""Take a snapshot of one volume."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from backupd.operations.context import Context
from backupd.operations.taking import Treat, Wish
from backupd.operations.window import read_together
from backupd.progress import Progress
from backupd.snapshot import Manifest


def backup(
    context: Context,
    name: str,
    *,
    treat: Treat,
    exclude: Sequence[str] = (),
    progress: Progress,
    cancel: threading.Event,
) -> Manifest:
    """Save the volume of that name as a new snapshot and return its manifest.

    `treat` says how a container that writes to the volume is calmed while tar reads, and not longer. When
    anything fails it raises and there is no snapshot; the containers run again in any case.
    """
    wish = Wish(context, name, treat, tuple(exclude), progress)
    (result,) = read_together(context, [wish], cancel=cancel)
    return result.taken.manifest
