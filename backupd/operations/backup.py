"""Take a snapshot of one volume."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from backupd.operations.context import Context
from backupd.operations.taking import Wish
from backupd.operations.window import read_together
from backupd.progress import Progress
from backupd.snapshot import Manifest


def backup(
    context: Context,
    name: str,
    *,
    mode: str,
    exclude: Sequence[str] = (),
    progress: Progress,
    cancel: threading.Event,
) -> Manifest:
    """Save the volume of that name as a new snapshot and return its manifest.

    `mode` is `pause`: the containers that write to the volume stand still while tar reads, not longer; or
    `none`. When anything fails it raises and there is no snapshot; the containers run again in any case.
    """
    wish = Wish(context, name, mode, tuple(exclude), progress)
    (result,) = read_together(context, [wish], cancel=cancel)
    return result.manifest
