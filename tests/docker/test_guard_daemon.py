"""The guard in the daemon: it holds what is to be held, and answers who asks before a volume goes."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backupd.engine.client import Engine
from backupd.engine.hold import holds
from backupd.unixhttp import SOCKET, ask, reachable
from tests.docker.conftest import MakeVolume, RunInVolume
from tests.docker.program import PATIENCE_SECONDS, Daemon, Program

pytestmark = pytest.mark.docker

LABELS = {"backupd.enable": "true", "backupd.schedule": "@yearly"}


@pytest.fixture
def program(engine: Engine, tmp_path: Path) -> Iterator[Program]:
    """A program with a repository, whose holds are gone afterwards."""
    made = Program(engine, tmp_path)
    made.run("init")
    yield made
    for each in holds(engine):
        if each.instance == made.name:
            engine.api.remove_container(each.container)


@pytest.fixture
def daemon(program: Program) -> Iterator[Daemon]:
    """The daemon, which answers."""
    made = Daemon(program)
    try:
        made.wait_for("daemon started")
        yield made
    finally:
        made.stop(signal.SIGTERM)


@pytest.fixture
def volume(program: Program, make_volume: MakeVolume, run_in_volume: RunInVolume) -> str:
    """A volume with a file, protected, and saved by nobody yet."""
    name = make_volume(program.name, LABELS)
    run_in_volume(name, "echo kept > file")
    return name


def preflight(program: Program, *volumes: str) -> dict[str, Any]:
    """What the daemon says of the volumes."""
    status, body = ask(
        program.directory / "state" / SOCKET,
        "POST",
        "/preflight",
        json.dumps({"volumes": volumes}).encode(),
        timeout_seconds=4 * PATIENCE_SECONDS,
    )
    assert status == 200, body
    verdicts: dict[str, Any] = json.loads(body)["volumes"]
    return verdicts


def await_true(question: Callable[[], object]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not question():
        assert time.monotonic() < deadline
        threading.Event().wait(0.1)


def holders(program: Program, volume: str) -> list[str]:
    """The ids of the containers that hold the volume."""
    return [each.container for each in holds(program.engine) if each.volume == volume]


def test_a_protected_volume_may_go_once_it_is_saved(
    program: Program, daemon: Daemon, volume: str, make_volume: MakeVolume
) -> None:
    """The snapshot is there when the answer comes; unprotected ones may go as they are."""
    other = make_volume(program.name)
    verdicts = preflight(program, volume, other, f"{program.name}-nowhere")
    assert verdicts[volume]["ok"]
    assert program.snapshots(volume) == [verdicts[volume]["snapshot"]]
    assert verdicts[other]["ok"]
    assert verdicts[other]["snapshot"] is None
    assert "backupd.enable" in verdicts[other]["note"]
    assert verdicts[f"{program.name}-nowhere"]["note"] == "it is gone already"


def test_a_volume_that_cannot_be_saved_may_not_go(program: Program, daemon: Daemon, volume: str) -> None:
    """G1: the reason is in the answer."""
    storage = program.directory / "storage"
    storage.rename(storage.with_name("away"))
    verdict = preflight(program, volume)[volume]
    storage.with_name("away").rename(storage)
    assert not verdict["ok"]
    assert verdict["reason"]
    assert preflight(program, volume)[volume]["ok"]


def test_a_client_that_has_gone_stops_no_backup(program: Program, daemon: Daemon, volume: str) -> None:
    """G2: the backup completes, and who asks again gets its answer."""
    body = json.dumps({"volumes": [volume]}).encode()
    with socket.socket(socket.AF_UNIX) as client, reachable(program.directory / "state" / SOCKET) as name:
        client.connect(name)
        head = f"POST /preflight HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        sessions = program.directory / "storage" / "sessions" / "test" / volume
        await_true(lambda: list(sessions.glob("*")))  # it has begun
    await_true(lambda: program.snapshots(volume))
    assert preflight(program, volume)[volume]["ok"]


def test_many_who_ask_at_once_all_get_their_answer(program: Program, daemon: Daemon, volume: str) -> None:
    """Single flight: one backup at a time, and a snapshot for everybody."""
    verdicts: list[Any] = []
    threads = [
        threading.Thread(target=lambda: verdicts.append(preflight(program, volume)[volume])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * PATIENCE_SECONDS)
    assert [verdict["ok"] for verdict in verdicts] == [True] * 4
    assert {verdict["snapshot"] for verdict in verdicts} <= set(program.snapshots(volume))


def test_what_containers_said_is_remembered_when_they_are_gone(
    program: Program, daemon: Daemon, make_volume: MakeVolume
) -> None:
    """A container's label protected the volume, and it was saved: compose removes containers first."""
    api, name = program.engine.api, make_volume(program.name)
    made = api.create_container(
        "alpine:3.22",
        ["true"],
        labels={**LABELS, "backupd.test": "true"},
        host_config=api.create_host_config(binds=[f"{name}:/v"], network_mode="none"),
    )["Id"]
    first = preflight(program, name)[name]
    assert first["snapshot"]
    api.remove_container(made)
    again = preflight(program, name)[name]
    assert again["ok"]
    assert again["snapshot"] in program.snapshots(name)


def test_the_daemon_holds_what_is_to_be_held(
    program: Program, daemon: Daemon, make_volume: MakeVolume
) -> None:
    """Also what is made while it runs, and again when it was pruned; until it is released."""
    name = make_volume(program.name, {**LABELS, "backupd.guard": "hold"})
    await_true(lambda: holders(program, name))
    [first] = holders(program, name)
    program.engine.api.remove_container(first)
    await_true(lambda: [each for each in holders(program, name) if each != first])
    program.run("release", name)
    assert holders(program, name) == []
    assert len(program.snapshots(name)) == 1
    program.run("hold", "--on")
    await_true(lambda: holders(program, name))
    program.run("hold", "--off")
    program.engine.api.remove_volume(name)
