"""The guard in the daemon: holds what is to be held, and answers who asks before a volume goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import structlog

from backupd.engine.discovery import Survey, survey
from backupd.errors import BackupdError
from backupd.guard.answer import answer
from backupd.guard.remembered import remembered
from backupd.guard.saving import preflight
from backupd.ledger import Ledger
from backupd.observer import Observer
from backupd.operations.context import Context
from backupd.operations.hold import Keeper
from backupd.operations.preflight import Verdict
from backupd.protection import Protection
from backupd.settings import Settings
from backupd.wiring import protections

log = structlog.get_logger(__name__)


class Service:
    """Any thread may call. What it saves, `observer` hears of; it ends early when `cancel` is set."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        context: Context,
        observer: Observer,
        cancel: threading.Event,
    ) -> None:
        self._settings, self._context, self._observer = settings, context, observer
        self._preflight = preflight(settings, context, (observer,), log.warning, cancel)
        self._keeper = Keeper(
            context.engine,
            lambda: context.image,
            instance=context.instance,
            state_dir=settings().state_dir,
        )

    def saw(self, seen: Survey, found: Sequence[Protection]) -> None:
        """Hold what is to be held; never raises."""
        self._keeper.keep(seen, found)

    def answer(self, names: Sequence[str]) -> dict[str, Verdict]:
        """Save those of the volumes that are to be saved; of each, whether it may go. Never raises."""
        try:
            seen = survey(self._context.engine)
            found = known(self._settings(), seen, self._observer.ledger)
            return answer(names, seen, found, self._preflight)
        except BackupdError as error:
            return {n: Verdict(n, ok=False, reason=error.message, hint=error.hint) for n in names}


def known(settings: Settings, seen: Survey, ledger: Ledger) -> list[Protection]:
    """What is protected as of one look, by labels and settings, and by what is remembered of those gone."""

    def saved(volume: str) -> bool:
        return ledger.last_success(volume) is not None

    return remembered(protections(settings, seen), seen, saved, settings.defaults)
