"""Which snapshots of a project are restored: those of one quiet, as long as there is one that counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from backupd.operations.moment import newest_moment
from backupd.snapshot import Manifest, Window
from backupd.volume import Volume
from tests.unit.test_snapshot import MANIFEST

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def snapshot(volume: str, day: int, *together: str) -> Manifest:
    """A snapshot of that day; `together` are the volumes that were meant to be read with it."""
    return replace(
        MANIFEST,
        snapshot=f"202611{day:02}T020000Z-0000",
        volume=Volume(volume, "local", {}, {}),
        window=Window(f"202611{day:02}T015959Z-0000", together, NOW, NOW) if together else None,
    )


def days(*manifests: Manifest) -> dict[str, int]:
    return {each.volume.name: int(each.snapshot[6:8]) for each in newest_moment(manifests).manifests}


def remarks(*manifests: Manifest) -> str:
    return "; ".join(newest_moment(manifests).remarks)


def test_the_newest_quiet_is_taken() -> None:
    """Whatever was saved alone since."""
    snapshots = [snapshot(name, day, "db", "up") for day in (1, 2) for name in ("db", "up")]
    assert days(*snapshots, snapshot("db", 3)) == {"db": 2, "up": 2}
    assert remarks(*snapshots) == ""


def test_a_quiet_in_which_a_volume_failed_is_passed_over() -> None:
    """The one before is whole; which volume was missing is told."""
    whole = [snapshot(name, 1, "db", "up") for name in ("db", "up")]
    assert days(*whole, snapshot("db", 2, "db", "up")) == {"db": 1, "up": 1}
    assert "up could not be saved" in remarks(*whole, snapshot("db", 2, "db", "up"))


def test_volumes_that_are_no_longer_read_together_are_as_new_as_they_can_be() -> None:
    """A group that was given up long ago is no reason to restore what is long ago; that is told."""
    old = [snapshot(name, 1, "db", "up") for name in ("db", "up")]
    assert days(*old, snapshot("db", 20), snapshot("up", 21)) == {"db": 20, "up": 21}
    assert "not read together" in remarks(*old, snapshot("db", 20), snapshot("up", 21))


def test_a_volume_with_another_schedule_is_as_new_as_it_can_be() -> None:
    """It is named."""
    group = [snapshot(name, 2, "db", "up") for name in ("db", "up")]
    assert days(*group, snapshot("logs", 3)) == {"db": 2, "up": 2, "logs": 3}
    assert remarks(*group, snapshot("logs", 3)) == "logs was not read together with db, up"


def test_a_single_volume_is_no_matter_of_moments() -> None:
    """Nothing to say."""
    assert days(snapshot("db", 1), snapshot("db", 2)) == {"db": 2}
    assert remarks(snapshot("db", 1)) == ""
