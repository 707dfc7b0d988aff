"""What is said of a volume that was read: the truth, by who could write to it meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from backupd.engine.helper import TarResult
from backupd.engine.quiesce import Calmed, Report
from backupd.errors import HelperFailed
from backupd.operations.reading import Stillness, Verdict, judge, others_may_write
from backupd.snapshot import Consistency
from backupd.treatment import Treatment
from backupd.volume import Container, Mount, Volume

NOW = datetime(2026, 11, 26, 2, 0, tzinfo=UTC)
CHANGED = TarResult(1, ("tar: ./ledger: file changed as we read it",))
UNCHANGED = TarResult(0, ("tar: ./s: socket ignored",))


def volume(driver: str = "local", **options: str) -> Volume:
    return Volume("data", driver, options, {})


def writer(name: str = "app") -> Container:
    return Container(name, name, "app", "running", {}, (Mount("data", "/data", read_write=True),))


def calmed(consistency: Consistency = "crash-consistent") -> Calmed:
    still = consistency != "fuzzy"
    return Calmed(writer(), Treatment("pause" if still else "none"), consistency, still, still, 1.5)


def decide(
    subject: Volume,
    result: TarResult,
    *containers: Calmed,
    intruders: tuple[Container, ...] = (),
    named: bool = True,
) -> Verdict:
    report = Report(containers, 1.5, intruders)
    return judge(subject, result, Stillness(NOW, NOW, report), named=named)


def test_nobody_could_write() -> None:
    """Clean; sockets, which tar leaves out, are counted and no warning."""
    verdict = decide(volume(), UNCHANGED)
    assert (verdict.consistency, verdict.sockets, verdict.warnings) == ("clean-stop", 1, ())


@pytest.mark.parametrize("consistency", ["clean-stop", "hooks", "crash-consistent", "fuzzy"])
def test_it_is_what_the_containers_were(consistency: Consistency) -> None:
    """What quiescing reports is what the snapshot claims."""
    assert decide(volume(), UNCHANGED, calmed(consistency)).consistency == consistency


def test_a_file_changed_though_nobody_should_have_written() -> None:
    """E15: under pause the backup fails, and names the file."""
    with pytest.raises(HelperFailed, match="ledger"):
        decide(volume(), CHANGED, calmed())


def test_a_file_changed_that_could_change() -> None:
    """E15: under none it is kept and marked, the file named; in an encrypted repository it is not."""
    verdict = decide(volume(), CHANGED, calmed("fuzzy"))
    assert (verdict.changed, verdict.consistency) == (True, "fuzzy")
    assert "ledger" in verdict.warnings[0]
    assert "ledger" not in str(decide(volume(), CHANGED, calmed("fuzzy"), named=False).warnings)


def test_a_container_that_came_while_the_volume_was_read() -> None:
    """It is named, and the snapshot claims nothing."""
    verdict = decide(volume(), UNCHANGED, calmed(), intruders=(writer("new"),))
    assert verdict.consistency == "fuzzy"
    assert verdict.warnings == ("new was started while the volume was read",)


@pytest.mark.parametrize(
    "shared",
    [volume(type="nfs", o="addr=10.0.0.1"), volume(type="cifs"), volume("vieux/sshfs")],
    ids=["nfs", "cifs", "plugin"],
)
def test_a_volume_that_other_machines_may_write_to(shared: Volume) -> None:
    """I8: no claim of one point in time, even if every container here stood still; a change is no failure."""
    assert decide(shared, UNCHANGED, calmed()).consistency == "fuzzy"
    verdict = decide(shared, CHANGED, calmed())
    assert verdict.consistency == "fuzzy"
    assert "others may have written" in verdict.warnings[-1]


@pytest.mark.parametrize("options", [{}, {"type": "none", "o": "bind"}, {"type": "tmpfs"}, {"type": "ext4"}])
def test_a_volume_of_this_machine(options: dict[str, str]) -> None:
    """Nobody else mounts it."""
    assert others_may_write(volume(**options)) is None
