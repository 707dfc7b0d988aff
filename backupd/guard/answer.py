"""Whether volumes may go, for those who only have their names: the gate, scripts, `backupd release`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from backupd.engine.discovery import Survey
from backupd.guard.plan import Item, plan
from backupd.guard.removal import Removal
from backupd.operations.preflight import Verdict
from backupd.protection import Protection

GONE = "it is gone already"


def answer(
    names: Sequence[str],
    seen: Survey,
    protections: Sequence[Protection],
    preflight: Callable[[Iterable[Protection]], dict[str, Verdict]],
) -> dict[str, Verdict]:
    """Save those of the volumes that are to be saved; of each, whether it may go.

    `protections` are of the same look at the engine as `seen`. One that the engine does not have may go.
    """
    made = plan(Removal(names=frozenset(names)), seen, protections, None)
    verdicts = {name: Verdict(name, ok=True, note=GONE) for name in names}
    verdicts |= {item.volume: _unsaved(item) for item in made.of("unsaved", "unknown", "own")}
    return verdicts | preflight(item.protection for item in made.of("save"))


def _unsaved(item: Item) -> Verdict:
    name = item.volume
    if item.fate == "unsaved":
        return Verdict(name, ok=True, note=item.why)
    hint = None if item.fate == "own" else "correct its labels or the settings"
    return Verdict(name, ok=False, reason=f"volume {name}: {item.why}", hint=hint)
