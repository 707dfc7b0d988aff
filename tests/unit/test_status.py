"""The status as a value that travels."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from backupd.status import Daemon, Last, Status, Waiting, Working

TIME = datetime(2026, 11, 23, 2, tzinfo=UTC)
STATUS = Status(
    daemon=Daemon(7, "0.1.0", TIME, "backupd-1", "db1", "engine", False, "/backups"),
    running=(Working("shop_db", "shop", "reading", TIME, 1.5, 1000, None),),
    waiting=(Waiting("mail", ("mail", "index"), TIME, urgent=True),),
    next={"shop_db": TIME},
    last={"shop_db": Last("failed", TIME, None, None, "disk full", "make room")},
    skipped={"shop_db": 3},
    upkeep={"prune of backupd-1": TIME},
)


def test_status_travels_as_json() -> None:
    """What was written is what is read; more keys, of others, do no harm."""
    text = json.dumps(STATUS.as_json() | {"health": "of somebody else"})
    assert Status.from_json(json.loads(text)) == STATUS
    assert json.loads(text)["running"][0]["started"] == "2026-11-23T02:00:00+00:00"


@pytest.mark.parametrize("wrong", [{}, {"daemon": None}, STATUS.as_json() | {"next": {"a": "soon"}}])
def test_what_is_no_status_is_refused(wrong: dict[str, object]) -> None:
    """Another program may answer, or another version."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        Status.from_json(wrong)
