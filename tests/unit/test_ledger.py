from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from backupd.ledger import Ledger
from backupd.record import Failure, Record, Success, decode
from tests.unit.records import NOON, manifest, run


def test_what_became_of_runs_outlasts_the_process(tmp_path: Path) -> None:
    """Another object on the same directory knows it all."""
    ledger = Ledger(tmp_path)
    ledger.seen(["shop"], NOON)
    ledger.started(run(None))
    done = run("ok")
    ledger.ended(done)
    assert done.manifest
    record = Ledger(tmp_path).record("shop")
    assert record.first_seen == NOON
    assert record.last_start == NOON
    assert record.success == Success.of(done.manifest, done)
    assert record.runs == {"ok": 1}
    assert record.read_bytes == 10_240
    assert Ledger(tmp_path).last_success("shop") == NOON
    assert Ledger(tmp_path).last_success("other") is None


def test_failures_are_kept_until_a_success(tmp_path: Path) -> None:
    """`failing_since` is the first of a row of failures; a snapshot, even with trouble, ends it."""
    ledger = Ledger(tmp_path)
    for hour in range(3):
        ledger.ended(run("failed", started=NOON + timedelta(hours=hour)))
    record = ledger.record("shop")
    assert record.failing_since == NOON + timedelta(seconds=60)
    assert record.failure == Failure(
        NOON + timedelta(hours=2, seconds=60), "failed", "the storage is full", "make room"
    )
    assert ledger.last_success("shop") is None
    ledger.ended(run("degraded", started=NOON + timedelta(hours=3)))
    record = ledger.record("shop")
    assert record.failing_since is None
    assert record.failure
    assert record.failure.outcome == "degraded"
    assert record.success
    assert record.success.outcome == "degraded"
    assert record.runs == {"failed": 3, "degraded": 1}


@pytest.mark.parametrize("outcome", ["skipped", "interrupted"])
def test_a_run_that_was_nobodys_fault_is_counted_and_no_failure(tmp_path: Path, outcome: str) -> None:
    """Somebody else saves the volume, or the daemon was told to stop."""
    ledger = Ledger(tmp_path)
    ledger.ended(run(outcome))  # type: ignore[arg-type]
    record = ledger.record("shop")
    assert record.runs == {outcome: 1}
    assert record.failure is None
    assert record.failing_since is None


def test_a_lost_ledger_is_filled_from_the_repository(tmp_path: Path) -> None:
    """The repository knows the successes; so nothing is red because a file was lost."""
    ledger = Ledger(tmp_path)
    ledger.reconcile({"shop": manifest()}, asked=NOON + timedelta(hours=1))
    record = ledger.record("shop")
    assert record.success
    assert record.success.started == NOON
    assert record.success.seconds == 60
    assert record.success.files == 7


def test_the_repository_is_believed_rather_than_the_ledger(tmp_path: Path) -> None:
    """A storage that is another one now has no success, whatever the ledger says; a run since then has."""
    ledger = Ledger(tmp_path)
    ledger.ended(run("ok", "gone"))
    ledger.ended(run("ok", "older"))
    ledger.ended(run("ok", "during", started=NOON + timedelta(hours=2)))
    older = manifest("older", NOON - timedelta(days=3))
    ledger.reconcile({"older": older}, asked=NOON + timedelta(hours=1))
    assert ledger.last_success("gone") is None
    assert ledger.last_success("older") == older.started
    assert ledger.last_success("during") == NOON + timedelta(hours=2)


def test_a_damaged_ledger_is_put_aside_and_made_anew_from_what_is_known(tmp_path: Path) -> None:
    """Bytes that are no database cost nothing that this process knows; the bytes stay to be looked at."""
    ledger = Ledger(tmp_path)
    ledger.ended(run("ok"))
    ledger.keep_told({"shop": "x"})
    (tmp_path / "ledger.db").write_bytes(b"no database" * 1000)
    ledger.started(run(None, "other"))
    assert (tmp_path / "ledger.damaged").read_bytes().startswith(b"no database")
    fresh = Ledger(tmp_path)
    assert fresh.last_success("shop") == NOON
    assert fresh.record("other").last_start == NOON
    assert fresh.told() == {"shop": "x"}
    assert ledger.trouble is None


def test_a_ledger_that_is_removed_while_it_is_used_comes_back(tmp_path: Path) -> None:
    """What is known is written again with the next event."""
    ledger = Ledger(tmp_path)
    ledger.ended(run("ok"))
    (tmp_path / "ledger.db").unlink()
    assert ledger.last_success("shop") == NOON
    ledger.started(run(None, "other"))
    assert Ledger(tmp_path).last_success("shop") == NOON


def test_a_ledger_that_cannot_be_written_fails_nothing_and_says_so(tmp_path: Path) -> None:
    """R1: what is noted lasts as long as the process; `trouble` says why no longer, until it can be."""
    (tmp_path / "ledger.db").mkdir()  # stands for any directory or disk that does not take it
    ledger = Ledger(tmp_path)
    ledger.ended(run("ok"))
    assert ledger.last_success("shop") == NOON
    assert ledger.trouble
    assert str(tmp_path / "ledger.db") in ledger.trouble
    (tmp_path / "ledger.db").rmdir()
    ledger.started(run(None, "other"))
    assert ledger.trouble is None
    assert Ledger(tmp_path).last_success("shop") == NOON


def test_a_record_of_another_version_is_as_good_as_none(tmp_path: Path) -> None:
    """What cannot be understood is passed over, and written anew."""
    ledger = Ledger(tmp_path)
    ledger.started(run(None))
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("UPDATE volume SET record = '{\"strange\": 1}'")
    database.close()
    assert ledger.records() == {}
    ledger.ended(run("ok"))
    assert ledger.last_success("shop") == NOON


def test_threads_and_processes_lose_no_run(tmp_path: Path) -> None:
    """A daemon and a command write down their runs at once."""
    script = (
        "import sys; from pathlib import Path; from backupd.ledger import Ledger\n"
        "from tests.unit.records import run\n"
        "for _ in range(10): Ledger(Path(sys.argv[1])).ended(run('ok'))"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2])
        for _ in range(2)
    ]
    ledger = Ledger(tmp_path)
    threads = [
        threading.Thread(target=lambda: [ledger.ended(run("ok")) for _ in range(10)]) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        assert other.wait(120) == 0
    assert ledger.record("shop").runs == {"ok": 40}


def test_a_record_is_the_same_when_it_is_read_again() -> None:
    """decode(encode(x)) == x."""
    record = (
        Record("shop").seen(NOON).ended(run("failed")).ended(run("fuzzy")).ended(run("degraded")).proved(NOON)
    )
    assert decode(record.encode()) == record
    assert decode(Record("shop").encode()) == Record("shop")
