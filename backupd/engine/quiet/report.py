"""What can be said of containers that were calmed, and so of what was read meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from backupd.snapshot import Consistency, Quiesced
from backupd.treatment import Treatment
from backupd.volume import Container


@dataclass(frozen=True)
class Calmed:
    """One container: what was done, what it guarantees, and for how many seconds it did not do its work.

    `exit_code` is of a stop; 137 means that it had to be killed. `held`: backupd kept it from its
    work; `still`: it did nothing, whoever saw to that.
    """

    container: Container
    treatment: Treatment
    consistency: Consistency
    held: bool
    still: bool
    seconds: float = 0.0
    exit_code: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All containers of a window. `seconds`: from when the first stood still until the last was back at work.

    `degraded` are post hooks that failed: what was read is good, the application may not be. `intruders` were
    started while it was quiet. `expired`: the application went on before its time, and what was not read by
    then is void.
    """

    containers: tuple[Calmed, ...]
    seconds: float
    intruders: tuple[Container, ...] = ()
    degraded: tuple[str, ...] = ()
    expired: bool = False

    def consistency(self, volume: str) -> Consistency:
        """What holds for the volume: the weakest of what holds for its writers, `clean-stop` without any."""
        if any(container.writes(volume) for container in self.intruders):
            return "fuzzy"
        found = [each.consistency for each in self.containers if each.container.writes(volume)]
        return max(found, key=get_args(Consistency).index, default="clean-stop")

    def still(self, volume: str) -> bool:
        """Whether nobody who could write to the volume ran: then nothing in it can have changed."""
        own = [each for each in self.containers if each.container.writes(volume)]
        return all(each.still for each in own) and not any(c.writes(volume) for c in self.intruders)

    def warnings(self, volume: str) -> tuple[str, ...]:
        """What a person should know about the quiet around the volume."""
        own = [text for each in self.containers if each.container.writes(volume) for text in each.warnings]
        started = [container.name for container in self.intruders if container.writes(volume)]
        return (*own, *(f"{name} was started while the volume was read" for name in started), *self.degraded)

    def quiesced(self, volume: str) -> Quiesced:
        """Who was kept from work for the volume, how, and for how long, for the manifest."""
        held = [each for each in self.containers if each.held and each.container.writes(volume)]
        modes = sorted({_mode(each) for each in self.containers if each.container.writes(volume)})
        names = tuple(each.container.name for each in held)
        return Quiesced(
            "+".join(modes) or "none", names, round(max((each.seconds for each in held), default=0), 3)
        )


def _mode(calmed: Calmed) -> str:
    hooks = "hooks" if calmed.treatment.pre or calmed.treatment.post else ""
    mode = calmed.treatment.mode
    return hooks if hooks and mode == "none" else "+".join(filter(None, (hooks, mode)))
