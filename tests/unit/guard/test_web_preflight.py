"""The route of the pre-flight: what it takes and what it answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from backupd.operations.preflight import Verdict
from backupd.unixhttp import ask
from backupd.web.preflight import PATH, preflight_route
from backupd.web.server import Entrance, serving, unix_socket

SAVED = Verdict("a", ok=True, snapshot="20261123T020000Z-7f3a")
REFUSED = Verdict("b", ok=False, reason="the disk is full", hint="make room")


Post = Callable[[bytes], tuple[int, Any]]


@pytest.fixture
def asked() -> list[Sequence[str]]:
    """What was asked for."""
    return []


@pytest.fixture
def post(asked: list[Sequence[str]], tmp_path: Path) -> Iterator[Post]:
    """Send a body to a server on a socket; the status and the JSON of its answer."""

    def ask_for(names: Sequence[str]) -> dict[str, Verdict]:
        asked.append(names)
        return {each.volume: each for each in (SAVED, REFUSED) if each.volume in names}

    def posted(body: bytes) -> tuple[int, Any]:
        status, answer = ask(tmp_path / "socket", "POST", PATH, body, timeout_seconds=60)
        return status, json.loads(answer)

    app = Starlette(routes=[preflight_route(ask_for)])
    with unix_socket(tmp_path / "socket") as bound, serving([Entrance(bound, app)]):
        yield posted


def test_each_volume_gets_a_verdict(post: Post, asked: list[Sequence[str]]) -> None:
    """200 whether they may go or not: that stands in the answer."""
    status, answer = post(b'{"volumes": ["a", "b", "a"]}')
    assert status == 200
    assert answer == {
        "volumes": {
            "a": {"ok": True, "snapshot": SAVED.snapshot, "reason": None, "hint": None, "note": None},
            "b": {
                "ok": False,
                "snapshot": None,
                "reason": "the disk is full",
                "hint": "make room",
                "note": None,
            },
        }
    }
    assert asked == [["a", "b"]]


MALFORMED = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"volumes": "a"}',
    b'{"volumes": []}',
    b'{"volumes": [1]}',
    b'{"volumes": [""]}',
    b'{"volumes": {"a": 1}}',
)


def test_a_malformed_body_is_refused(post: Post, asked: list[Sequence[str]]) -> None:
    """G3: nothing is asked, and no answer looks like a permission."""
    for body in MALFORMED:
        status, answer = post(body)
        assert status == 400
        assert "volumes" not in answer
    assert asked == []
