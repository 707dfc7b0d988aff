"""`backupd verify`."""

from __future__ import annotations

import json
import sys
import threading
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from backupd.cli.output import say, speak
from backupd.cli.progress import cancellable, shown
from backupd.cli.show import printable
from backupd.cli.words import size
from backupd.errors import IntegrityError
from backupd.ledger import Ledger
from backupd.opening import opened
from backupd.operations.verify import Verified, verify
from backupd.repository.verification.finding import Finding
from backupd.settings import Settings


def run(arguments: Namespace, settings: Settings) -> int:
    """Check snapshots and tell each finding as soon as it is sure; `IntegrityError` where there are any."""
    speak(settings)
    report = _Json(_writer()) if arguments.json else _Text(_writer())
    cancel = threading.Event()
    with (
        opened(settings, cancel) as repository,
        cancellable(cancel),
        shown("verify", things="packs") as progress,
    ):
        verified = verify(
            repository,
            host=arguments.host,
            volumes=arguments.volumes,
            share=arguments.read_data,
            found=report.finding,
            progress=progress,
            cancel=cancel,
        )
        lasts = repository.cache.lasts
    report.end(verified)
    Ledger(settings.state_dir).verified(verified.whole(settings.host), datetime.now(UTC))
    if 0 < arguments.read_data < 1 and not lasts:
        say("backupd: the state directory cannot be used: what was read is not remembered for the next time")
    _raise_findings(verified)
    return 0


def _raise_findings(verified: Verified) -> None:
    count = verified.counts.findings
    if not count:
        return
    hint = (
        "packs: the next backup that meets the same content stores it again, look again then; "
        "other objects: bring them back from a copy of the repository"
    )
    if verified.unmarked:
        hint = f"damaged packs could not be marked for repair: {verified.unmarked.message}"
    raise IntegrityError(
        f"the repository is damaged: {count} {'finding' if count == 1 else 'findings'}", hint=hint
    )


def _writer() -> Callable[[str], object]:
    """How to write results while a progress bar is drawn, which takes over standard output."""
    if sys.stdout.isatty():
        return lambda text: sys.stdout.write(text)
    return sys.stdout.write


class _Text:
    """Findings as lines for people."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def finding(self, finding: Finding) -> None:
        """One finding, with the files below it."""
        where = f"{finding.host}/{finding.volume} {finding.snapshot}: " if finding.snapshot else ""
        self._write(f"{where}{finding.problem}\n")
        for path in finding.paths:
            self._write(f"    {printable(path)}\n")
        if finding.more_paths:
            self._write(f"    and {finding.more_paths} more\n")

    def end(self, verified: Verified) -> None:
        """What was checked."""
        counts = verified.counts
        self._write(f"{counts.snapshots} snapshots, {counts.chunks} chunks in {counts.packs} packs")
        if counts.read_packs:
            self._write(f", {counts.read_packs} of them read ({size(counts.read_bytes)})")
        self._write(": all is well\n" if not counts.findings else "\n")
        if counts.unlisted:
            say(f"backupd: the storage does not list {counts.unlisted} packs that are there")
        if verified.marked:
            packs = "pack is" if verified.marked == 1 else "packs are"
            say(f"backupd: {verified.marked} damaged {packs} marked: backups store the content again")


class _Json:
    """One JSON object, its findings written as they come: there may be many."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._before = '{"findings": ['

    def finding(self, finding: Finding) -> None:
        """One element."""
        self._write(f"{self._before}\n{json.dumps(_as_json(finding), ensure_ascii=False)}")
        self._before = ","

    def end(self, verified: Verified) -> None:
        """The rest of the object."""
        if self._before != ",":
            self._write(self._before)
        unmarked = verified.unmarked.message if verified.unmarked else None
        rest = {**asdict(verified.counts), "marked": verified.marked, "unmarked": unmarked}
        del rest["findings"]
        self._write(f"\n], {json.dumps(rest, ensure_ascii=False)[1:]}\n")


def _as_json(finding: Finding) -> dict[str, Any]:
    paths = [printable(path) for path in finding.paths]
    return {**asdict(finding), "paths": paths}
