"""What the repository knows of each volume's last success."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from backupd.errors import IntegrityError, ObjectNotFound, RepositoryError
from backupd.repository import Repository
from backupd.repository.catalogue import Place
from backupd.snapshot import Manifest


def newest(repository: Repository, host: str) -> Mapping[str, Manifest]:
    """The newest snapshot of each of a host's volumes, with one listing; unreadable ones are left out."""
    places: dict[str, Place] = {}
    for place in sorted(repository.places(host), key=lambda place: place.snapshot):
        places[place.volume] = place
    found = {}
    for volume, place in places.items():
        with suppress(IntegrityError, RepositoryError, ObjectNotFound):
            found[volume] = repository.load(place)
    return found
