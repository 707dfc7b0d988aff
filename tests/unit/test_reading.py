"""What is said of a volume that was read: the truth, by who could write to it meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from backupd.engine.discovery import Survey
from backupd.engine.helper import TarResult
from backupd.errors import HelperFailed
from backupd.operations.consistency import others_may_write, weakest
from backupd.operations.reading import Reading, Stillness
from backupd.volume import Container, Mount, Volume

NOW = datetime(2026, 11, 26, 2, 0, tzinfo=UTC)
CHANGED = TarResult(1, ("tar: ./ledger: file changed as we read it",))
UNCHANGED = TarResult(0, ("tar: ./s: socket ignored",))


def volume(driver: str = "local", **options: str) -> Volume:
    return Volume("data", driver, options, {})


def container(name: str, state: str = "running", *, writes: bool = True) -> Container:
    return Container(name, name, "app", state, {}, (Mount("data", "/data", read_write=writes),))


def stillness(*calmed: str, after: tuple[Container, ...] = ()) -> Stillness:
    return Stillness(calmed, NOW, NOW, 1.5, Survey((), after))


def test_nobody_could_write() -> None:
    """A reader and a stopped writer do no harm."""
    reading = Reading(volume(), (container("r", writes=False), container("s", "exited")), "pause")
    assert reading.to_hold == ()
    verdict = reading.judge(UNCHANGED, stillness(), named=True)
    assert (verdict.consistency, verdict.sockets, verdict.warnings) == ("clean-stop", 1, ())
    assert verdict.quiesced.seconds == 0


def test_every_writer_was_paused() -> None:
    """I7: labelled or not; and what was held for another volume is not said to be held for this."""
    users = (container("a"), container("b"))
    reading = Reading(volume(), users, "pause")
    verdict = reading.judge(UNCHANGED, stillness("a", "b", "other"), named=True)
    assert verdict.consistency == "crash-consistent"
    assert verdict.quiesced.containers == ("a", "b")
    assert verdict.quiesced.seconds == 1.5


def test_one_of_the_writers_ran() -> None:
    """The weakest counts."""
    reading = Reading(volume(), (container("a"), container("b")), "none")
    assert reading.judge(UNCHANGED, stillness("a"), named=True).consistency == "fuzzy"


def test_a_file_changed_though_nobody_should_have_written() -> None:
    """E15: under pause the backup fails, and names the file."""
    reading = Reading(volume(), (container("a"),), "pause")
    with pytest.raises(HelperFailed, match="ledger"):
        reading.judge(CHANGED, stillness("a"), named=True)


def test_a_file_changed_that_could_change() -> None:
    """E15: under none it is kept and marked, the file named; in an encrypted repository it is not."""
    reading = Reading(volume(), (container("a"),), "none")
    verdict = reading.judge(CHANGED, stillness(), named=True)
    assert verdict.changed
    assert verdict.consistency == "fuzzy"
    assert "ledger" in verdict.warnings[0]
    assert "ledger" not in str(reading.judge(CHANGED, stillness(), named=False).warnings)


def test_a_container_that_came_while_the_volume_was_read() -> None:
    """It is named, and the snapshot claims nothing."""
    reading = Reading(volume(), (container("a"),), "pause")
    verdict = reading.judge(UNCHANGED, stillness("a", after=(container("a"), container("new"))), named=True)
    assert verdict.consistency == "fuzzy"
    assert verdict.warnings == ("new was started while the volume was read",)


@pytest.mark.parametrize(
    "shared",
    [volume(type="nfs", o="addr=10.0.0.1"), volume(type="cifs"), volume("vieux/sshfs")],
    ids=["nfs", "cifs", "plugin"],
)
def test_a_volume_that_other_machines_may_write_to(shared: Volume) -> None:
    """I8: no claim of one point in time, even if every container here stood still; a change is no failure."""
    verdict = Reading(shared, (container("a"),), "pause").judge(CHANGED, stillness("a"), named=True)
    assert verdict.consistency == "fuzzy"
    assert "others may have written" in verdict.warnings[-1]


@pytest.mark.parametrize("options", [{}, {"type": "none", "o": "bind"}, {"type": "tmpfs"}, {"type": "ext4"}])
def test_a_volume_of_this_machine(options: dict[str, str]) -> None:
    """Nobody else mounts it."""
    assert others_may_write(volume(**options)) is None


def test_the_weakest_class_counts() -> None:
    """From best to worst: clean-stop, hooks, crash-consistent, fuzzy."""
    assert weakest([]) == "clean-stop"
    assert weakest(["clean-stop", "hooks"]) == "hooks"
    assert weakest(["hooks", "crash-consistent", "clean-stop"]) == "crash-consistent"
    assert weakest(["crash-consistent", "fuzzy"]) == "fuzzy"
