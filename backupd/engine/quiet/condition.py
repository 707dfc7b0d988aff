"""What the engine says of one container at one moment, as far as calming it is concerned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from docker.errors import NotFound

from backupd.engine.client import Engine

STOP_SECONDS = 10
"""What the engine gives a container to stop in that names no time of its own."""

INSPECT_SECONDS = 30
"""What the engine gets for an answer: one whose exec is frozen half-way it does not inspect at all."""

_SWARM_TASK = "com.docker.swarm.task.id"


@dataclass(frozen=True)
class Condition:
    """`started` is when it was started last, in the engine's words; `health` is None without a check."""

    id: str
    running: bool
    paused: bool
    restarting: bool
    removing: bool
    started: str
    exit_code: int
    out_of_memory: bool
    health: str | None
    stop_seconds: int
    stop_signal: str
    auto_remove: bool
    swarm_task: bool
    network_of: str | None

    @property
    def works(self) -> bool:
        """Whether its processes run, and are not frozen."""
        return self.running and not self.paused and not self.restarting

    @property
    def ended_well(self) -> bool:
        """Whether it ended by itself: with code 0, or by the signal that it is asked to stop with."""
        return not self.out_of_memory and self.exit_code in (0, *_ASKED.get(self.stop_signal, (143,)))


_ASKED = {
    "SIGTERM": (143,),
    "SIGINT": (130,),
    "SIGQUIT": (131,),
    "SIGHUP": (129,),
    "SIGUSR1": (138,),
    "SIGUSR2": (140,),
    "SIGKILL": (),
}


def condition(engine: Engine, container: str, name: str) -> Condition | None:
    """How the container is; None if there is no such container any more."""
    with engine.within(INSPECT_SECONDS, f"inspect container {name}") as api:
        try:
            answer = api.inspect_container(container)
        except NotFound:
            return None
    return _condition(answer)


def _condition(answer: Mapping[str, Any]) -> Condition:
    state, config, host = answer["State"], answer["Config"], answer["HostConfig"]
    seconds = config.get("StopTimeout")
    return Condition(
        id=answer["Id"],
        running=bool(state["Running"]),
        paused=bool(state["Paused"]),
        restarting=bool(state["Restarting"]),
        removing=bool(state.get("Dead")) or state.get("Status") == "removing",
        started=str(state.get("StartedAt") or ""),
        exit_code=int(state.get("ExitCode") or 0),
        out_of_memory=bool(state.get("OOMKilled")),
        health=(state.get("Health") or {}).get("Status"),
        stop_seconds=STOP_SECONDS if seconds is None else int(seconds),
        stop_signal=_signal(config.get("StopSignal")),
        auto_remove=bool(host.get("AutoRemove")),
        swarm_task=_SWARM_TASK in (config.get("Labels") or {}),
        network_of=_shared_network(host.get("NetworkMode") or ""),
    )


def _signal(given: str | None) -> str:
    name = (given or "SIGTERM").upper()
    name = _NUMBERS.get(name, name)
    return name if name.startswith("SIG") else f"SIG{name}"


_NUMBERS = {"1": "SIGHUP", "2": "SIGINT", "3": "SIGQUIT", "9": "SIGKILL", "15": "SIGTERM"}


def _shared_network(mode: str) -> str | None:
    return mode.removeprefix("container:") if mode.startswith("container:") else None
