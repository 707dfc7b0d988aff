"""A snapshot's stream on its way into a volume."""

from __future__ import annotations

import threading

from backupd.engine.helper import extract
from backupd.operations.admit import Admission, admitted
from backupd.operations.context import Context
from backupd.progress import Progress, Tally
from backupd.snapshot import Manifest


def fill(
    context: Context,
    manifest: Manifest,
    volume: str,
    *,
    below: str = "",
    progress: Progress,
    cancel: threading.Event,
) -> None:
    """Extract the snapshot into the volume, or `below` its root: into what is empty, and nothing outside it.

    When it raises, a part of the members may be there.
    """
    done, total = 0, manifest.bytes.tar
    with extract(
        context.engine,
        volume,
        context.image,
        instance=context.instance,
        run=manifest.snapshot,
        fifo_dir=context.fifo_dir,
        cancel=cancel,
        below=below,
    ) as tar:
        stream = context.repository.reader(manifest).stream(cancel)
        for content in admitted(stream, Admission(manifest.snapshot)):
            tar.write(content)
            done += len(content)
            progress(Tally(done, bytes_total=total))
        tar.finish()
