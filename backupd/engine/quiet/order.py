"""In which order containers are calmed: those first that depend on others, as compose has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType

from backupd.volume import Container

DEPENDS_ON = "com.docker.compose.depends_on"


def dependents_first(
    containers: Sequence[Container], network_of: Mapping[str, str] = MappingProxyType({})
) -> tuple[Container, ...]:
    """The same containers, each before those that its compose service depends on, else by name.

    `network_of` gives for a container's id the id of the one whose network it uses, which it depends on too.
    What depends on each other in a circle stays in the order of names.
    """
    ordered = sorted(containers, key=lambda container: container.name)
    sorter: TopologicalSorter[str] = TopologicalSorter({container.id: () for container in ordered})
    for container in ordered:
        for other in ordered:
            named = other.project == container.project and other.service in tuple(_dependencies(container))
            if named or network_of.get(container.id) == other.id:
                sorter.add(other.id, container.id)
    try:
        rank = {found: index for index, found in enumerate(sorter.static_order())}
    except CycleError:
        return tuple(ordered)
    return tuple(sorted(ordered, key=lambda container: rank[container.id]))


def _dependencies(container: Container) -> Iterator[str]:
    """The services in a label such as `db:service_healthy:true,redis:service_started:false`."""
    for entry in container.labels.get(DEPENDS_ON, "").split(","):
        service = entry.split(":")[0].strip()
        if service:
            yield service
