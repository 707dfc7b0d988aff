"""`backupd forget` and `backupd snapshots` where there is no engine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backupd.cli import main
from backupd.repository import Repository
from backupd.storage.local import LocalStorage
from tests.streams import save, tar_of

Told = pytest.CaptureFixture[str]


@contextmanager
def opened(directory: Path) -> Iterator[Repository]:
    """The repository as another process has it."""
    with closing(LocalStorage(directory)) as storage:
        yield Repository.open(storage)


def name(day: int) -> str:
    """The id of a snapshot of November."""
    return f"202611{day:02}T020000Z-aaaa"


def take(directory: Path, day: int, **facts: Any) -> None:
    """A snapshot of a day in November."""
    started = datetime(2026, 11, day, 2, tzinfo=UTC)
    facts = {"host": "db1", "volume": "shop", "snapshot": name(day), "started": started, **facts}
    with opened(directory) as repository:
        save(repository, tar_of({"./day": b"%d" % day}), **facts)


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Told) -> Path:
    """A repository of host db1 with three days of two volumes, and no engine."""
    directory = tmp_path / "storage"
    for key, value in {
        "STORAGE": directory,
        "STATE_DIR": tmp_path / "state",
        "HOST": "db1",
        "TIMEZONE": "UTC",
        "DOCKER_HOST": f"unix://{tmp_path}/nowhere",
        "LOG__LEVEL": "error",
    }.items():
        monkeypatch.setenv(f"BACKUPD_{key}", str(value))
    monkeypatch.delenv("BACKUPD_CONFIG", raising=False)
    assert main(["init"]) == 0
    for day in (1, 2, 3):
        take(directory, day)
        take(directory, day, volume="shop_db", snapshot=f"{name(day)[:-4]}bbbb")
    capsys.readouterr()
    return directory


@pytest.fixture
def left(storage: Path) -> Callable[[str], list[str]]:
    """The ids that a volume has still."""

    def ids(volume: str = "shop") -> list[str]:
        with opened(storage) as repository:
            return [each.snapshot for each in repository.snapshots(None, volume)]

    return ids


Left = Callable[..., list[str]]


def test_dry_run_prints_a_line_with_the_reason_for_each(capsys: Told, left: Left) -> None:
    """On standard output, and changes nothing; needs no engine."""
    assert main(["forget", "shop", "--keep", "last=1", "--dry-run"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "shop on db1: keep last=1: 2 of 3 forgotten",
        f"  {name(3)}  keep    last 1 of 1",
        f"  {name(2)}  forget  not kept by last=1",
        f"  {name(1)}  forget  not kept by last=1",
    ]
    assert main(["forget", "shop", "--keep", "last=1", "--dry-run", "--json"]) == 0
    [plan] = json.loads(capsys.readouterr().out)
    assert [each["keep"] for each in plan["snapshots"]] == [True, False, False]
    assert plan["forgotten"] == []
    assert left() == [name(1), name(2), name(3)]


def test_without_a_terminal_it_wants_yes(capsys: Told, left: Left) -> None:
    """Nothing is deleted that nobody confirmed."""
    assert main(["forget", "shop", "--keep", "last=1"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert len(left()) == 3
    assert main(["forget", "shop", "--keep", "last=1", "--yes", "--json"]) == 0
    [done] = json.loads(capsys.readouterr().out)
    assert done["forgotten"] == [name(1), name(2)]
    assert left() == [name(3)]
    assert len(left("shop_db")) == 3
    assert main(["forget", "shop", "--keep", "last=1"]) == 0  # nothing to confirm


def test_a_pattern_names_volumes(left: Left) -> None:
    """As rules do; one that matches nothing is an error and nothing happens."""
    assert main(["forget", "shop*", "nothing*", "--keep", "last=1", "--yes"]) == 1
    assert len(left()) == 3
    assert main(["forget", "shop*", "--keep", "last=1", "--yes"]) == 0
    assert len(left()) == len(left("shop_db")) == 1


def test_without_policy_the_engine_is_asked(capsys: Told, left: Left) -> None:
    """And where it does not answer, nothing is guessed."""
    assert main(["forget", "shop", "--yes"]) == 1
    assert main(["forget", "--keep", "last=1", "--yes"]) == 1
    assert len(left()) == 3


def test_another_hosts_snapshots_are_forgotten_only_when_it_is_named(storage: Path, left: Left) -> None:
    """A machine that may delete does it for those that may not."""
    for day in (1, 2):
        take(storage, day, host="web", volume="www")
    assert main(["forget", "www", "--keep", "last=1", "--yes"]) == 1
    assert len(left("www")) == 2
    assert main(["forget", "www", "--host", "web", "--keep", "last=1", "--yes"]) == 0
    assert left("www") == [name(2)]


def test_one_snapshot_by_its_id(capsys: Told, left: Left) -> None:
    """The last good one needs another word; an ambiguous id is refused."""
    assert main(["forget", "--snapshot", "20261102", "--yes"]) == 1
    assert main(["forget", "--snapshot", name(2), "--yes"]) == 0
    assert left() == [name(1), name(3)]
    capsys.readouterr()
    assert main(["forget", "--snapshot", name(3), "--yes"]) == 1
    assert "--even-last" in capsys.readouterr().err
    assert main(["forget", "--snapshot", name(3), "--even-last", "--yes"]) == 0
    assert left() == [name(1)]


def test_one_volume_that_fails_does_not_keep_the_others(storage: Path, capsys: Told, left: Left) -> None:
    """R9: an unreadable manifest stops its own volume; the exit code says that not all is done."""
    with opened(storage) as repository:
        repository.storage.put(f"snapshots/db1/shop/{name(4)}.json", b"{")
        repository.storage.flush()
    assert main(["forget", "shop*", "--keep", "last=1", "--yes"]) == 3
    assert f"{name(4)}.json" in capsys.readouterr().err
    assert len(left("shop_db")) == 1
    assert len(list(storage.glob("snapshots/db1/shop/*.json"))) == 4


def test_a_collapse_is_shown_frozen_and_accepted(storage: Path, capsys: Told, left: Left) -> None:
    """I11: `snapshots` flags it and says what to do; until then `forget` keeps everything."""
    take(storage, 4, collapsed_from=name(3))
    assert main(["snapshots", "shop"]) == 0
    told = capsys.readouterr()
    assert ["COLLAPSED" in line for line in told.out.splitlines() if line[:1].isdigit()] == [
        *[False] * 3,
        True,
    ]
    assert "backupd forget shop --accept-collapse" in told.err
    assert main(["snapshots", "shop", "--json"]) == 0
    [*_, last] = json.loads(capsys.readouterr().out)
    assert (last["collapsed_from"], last["collapsed"], last["good"]) == (name(3), True, False)
    assert main(["forget", "shop", "--keep", "last=1", "--yes"]) == 0
    told = capsys.readouterr()
    assert f"frozen: {name(4)} collapsed" in told.err
    assert len(left()) == 4
    assert main(["forget", "shop", "--accept-collapse", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"volume": "shop", "accepted": [name(4)]}]
    assert main(["forget", "shop", "--keep", "last=1", "--yes"]) == 0
    assert left() == [name(4)]
    capsys.readouterr()
    assert main(["snapshots", "shop"]) == 0
    assert "COLLAPSED" not in capsys.readouterr().out


def test_a_snapshot_list_fits_a_terminal(
    storage: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred columns."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    take(storage, 4, collapsed_from=name(3), outcome="fuzzy", consistency="crash-consistent")
    assert main(["snapshots"]) == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 100
    assert any("COLLAPSED" in line for line in lines)
