"""The status as a value that travels."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupd.errors import DaemonUnreachable
from backupd.status import Daemon, Last, Status, Waiting, Working
from backupd.unixhttp import SOCKET, ask

TIME = datetime(2026, 11, 23, 2, tzinfo=UTC)
STATUS = Status(
    daemon=Daemon(7, "0.1.0", TIME, "backupd-1", "db1", "engine", False, "/backups"),
    running=(Working("shop_db", "shop", "reading", TIME, 1.5, 1000, None),),
    waiting=(Waiting("mail", ("mail", "index"), TIME),),
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


def test_socket_that_is_not_allowed_says_whom_to_be(tmp_path: Path) -> None:
    """The error tells the way out: another user, or the group."""
    closed = tmp_path / "state"
    closed.mkdir(mode=0o700 if os.geteuid() == 0 else 0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(DaemonUnreachable, match=r"[Pp]ermission denied") as refused:
            ask(closed / SOCKET, "GET", "/status")
    finally:
        if root:
            os.seteuid(0)
        closed.chmod(0o700)
    assert refused.value.hint
    assert "group" in refused.value.hint
