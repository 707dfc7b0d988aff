"""What is protected does not go unsaved, whoever asks the engine for it."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backupd.engine.client import Engine
from backupd.operations.lock import volume_lock
from tests.docker.gate.gating import GateProcess, gate_command, gated
from tests.docker.gate.raw import has_volume, make_volume, send
from tests.docker.own_engine import OwnEngine, wait_until
from tests.docker.program import Daemon, Program
from tests.docker.stack import Stack, stack_of

pytestmark = pytest.mark.docker

SETTINGS = '[helper]\nimage = "backupd-test-tools"\n\n[default]\nschedule = "0 0 1 1 *"\n'


@dataclass(frozen=True)
class Site:
    """An engine with the gate before it, and a program that saves its volumes; no daemon runs."""

    own: OwnEngine
    gate: GateProcess
    program: Program

    @property
    def storage(self) -> Path:
        """The directory of the repository."""
        return self.program.directory / "storage"

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.program.directory / "state"

    def waiting(self, volume: str) -> int:
        """How many requests for that volume the gate has held since it started."""
        return len(self.gate.said("removal waits", volumes=[volume]))

    def make_volume(self) -> str:
        """A protected volume with a file in it, which no container uses."""
        volume = f"{self.program.name}-{uuid.uuid4().hex[:8]}"
        make_volume(self.own.socket, volume, **{"backupd.enable": "true"})
        mount = ("-v", f"{volume}:/volume")
        self.own.docker("run", "--rm", "--network", "none", *mount, "alpine:3.22", "touch", "/volume/pear")
        return volume

    def has(self, volume: str) -> bool:
        """Is it there?"""
        return has_volume(self.own.socket, volume)

    def lose_storage(self) -> None:
        """Nothing can be saved from now on."""
        self.storage.rename(self.storage.with_name("away"))

    def find_storage(self) -> None:
        """The storage is back."""
        self.storage.with_name("away").rename(self.storage)

    def remove(self, volume: str) -> subprocess.CompletedProcess[str]:
        """What plain docker makes of it."""
        return self.own.docker("volume", "rm", volume, code=None)

    def begin_to_remove(self, volume: str) -> subprocess.Popen[str]:
        """Plain docker, which is not waited for."""
        return subprocess.Popen(
            ["docker", "volume", "rm", volume],
            env=self.own.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def gated_engine(
    own_engine: OwnEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[OwnEngine, GateProcess]]:
    """An engine with images, and the gate before it."""
    own_engine.load("postgres:16-alpine", "alpine:3.22", "backupd-test-tools")
    with gated(own_engine, tmp_path_factory.mktemp("gate")) as gate:
        yield own_engine, gate


@pytest.fixture
def site(gated_engine: tuple[OwnEngine, GateProcess], tmp_path: Path) -> Iterator[Site]:
    """A repository of the test's own; the gate starts anew with its settings."""
    own, gate = gated_engine
    engine = Engine.connect(own.host)
    program = Program(engine, tmp_path)
    program.add_settings(SETTINGS)
    program.run("init")
    gate.kill()
    gate.directory = tmp_path
    gate.start()
    yield Site(own, gate, program)
    for volume in own.volumes():
        if volume.startswith(program.name):
            engine.remove_volume(volume)
    engine.close()


@pytest.fixture
def stack(site: Site) -> Iterator[Stack]:
    """PostgreSQL with a thousand rows, each committed on its own."""
    with stack_of(site.program) as made:
        made.up()
        made.write_rows(1000)
        yield made


def test_down_v_saves_what_it_removes(site: Site, stack: Stack) -> None:
    """Plain `docker compose down -v`: saved once its containers have stopped; every row comes back."""
    stack.write_rows(1)
    before = stack.rows()
    stack.compose("down", "-v")
    assert not stack.volumes()
    (snapshot,) = stack.snapshots()
    assert snapshot["consistency"] == "clean-stop"
    (allowed,) = [line for line in site.gate.said("removal allowed") if stack.data in line["volumes"]]
    assert allowed["seconds"] > 0

    site.program.run("restore", "--project", stack.name, "--yes")
    stack.up()
    assert stack.rows() == before


def test_down_v_keeps_what_cannot_be_saved(site: Site, stack: Stack) -> None:
    """G1: the storage is away: compose fails with the reason and the way out, and the volume stays."""
    before = stack.rows()
    site.lose_storage()
    said = stack.compose("down", "-v", code=1)
    assert "storage" in said
    assert f"backupd gate allow {stack.data}" in said
    assert stack.data in stack.volumes()
    site.find_storage()
    stack.up()
    assert stack.rows() == before


def test_two_at_once_lose_nothing(site: Site, stack: Stack) -> None:
    """Two people type `docker compose down -v` in the same moment."""
    before = stack.rows()
    words = ("docker", "compose", "-f", str(stack.file), "down", "-v")
    both = [
        subprocess.Popen(words, env=stack.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    for each in both:
        each.wait(240)
    stack.compose("down", "-v")
    assert not stack.volumes()

    site.program.run("restore", "--project", stack.name, "--yes")
    stack.up()
    assert stack.rows() == before


def test_a_removal_is_refused_with_its_reason_and_the_override(site: Site) -> None:
    """G1: leave is given by name, and counts once."""
    volume, other = site.make_volume(), site.make_volume()
    site.lose_storage()
    refused = site.remove(volume)
    assert refused.returncode == 1
    assert f"volume {volume} stays, for it could not be saved" in refused.stderr
    assert str(site.storage) in refused.stderr
    assert site.has(volume)

    gate_command(site.own, "allow", volume)
    assert site.remove(other).returncode == 1
    assert site.remove(volume).returncode == 0
    assert not site.has(volume)
    make_volume(site.own.socket, volume, **{"backupd.enable": "true"})
    assert site.remove(volume).returncode == 1


@pytest.mark.parametrize(
    "body", [b"", b"x" * 2_000_000], ids=["no body", "a body that is too large to be shown"]
)
@pytest.mark.parametrize(
    "target", ["/%76olumes/{}", "http://h/volumes/{}?force=1", "/v1.41/volumes/{}?force=1"]
)
def test_no_spelling_and_no_body_gets_past(site: Site, target: str, body: bytes) -> None:
    """What CVE-2026-34040 hides from plugins is nothing that the gate looks at."""
    volume = f"{site.program.name}-x"
    make_volume(site.own.socket, volume, **{"backupd.enable": "true"})
    site.lose_storage()
    target = target.format(volume)
    assert send(site.own.socket, "DELETE", target, body, "application/json")[0] == 403
    assert site.has(volume)


def test_what_is_not_protected_goes(site: Site) -> None:
    """As if there were no gate, even while nothing can be saved."""
    volume = f"{site.program.name}-plain"
    make_volume(site.own.socket, volume)
    site.lose_storage()
    assert site.remove(volume).returncode == 0
    assert site.remove(volume).returncode == 1
    assert "no such volume" in site.remove(volume).stderr


def test_what_backupd_itself_removes_goes(site: Site) -> None:
    """The volume of a restore that failed, for one: asking about it would make backupd wait for itself."""
    volume = site.make_volume()
    site.lose_storage()
    site.program.engine.remove_volume(volume)
    assert not site.has(volume)


def test_a_prune_saves_all_that_it_may_take(site: Site) -> None:
    """Three volumes in one request: all of them saved, or the whole request refused."""
    volumes = [site.make_volume() for _ in range(3)]
    version = json.loads(send(site.own.socket, "GET", "/version")[1])["ApiVersion"]
    all_of_them = "?filters=%7B%22all%22%3A%5B%22true%22%5D%7D"
    target = "/volumes/prune" + (all_of_them if int(version.split(".")[1]) >= 42 else "")
    site.lose_storage()
    status, said = send(site.own.socket, "POST", target)
    assert status == 403
    assert all(volume.encode() in said and site.has(volume) for volume in volumes)

    site.find_storage()
    assert send(site.own.socket, "POST", target)[0] == 200
    assert not any(site.has(volume) for volume in volumes)
    assert all(len(site.program.snapshots(volume)) == 1 for volume in volumes)


def test_a_volume_in_use_is_the_engines_to_refuse(site: Site) -> None:
    """Saved all the same, for its last user may go meanwhile; then 409, as without the gate."""
    volume = site.make_volume()
    mount = ("-v", f"{volume}:/volume")
    container = site.own.docker("create", "--network", "none", *mount, "alpine:3.22", "true").stdout.strip()
    refused = site.remove(volume)
    assert "in use" in refused.stderr
    assert len(site.program.snapshots(volume)) == 1
    site.own.docker("rm", container)


def test_a_client_that_goes_away_ends_nothing(site: Site) -> None:
    """G2: killed while its request is held, its backup completes; who asks again meanwhile joins that."""
    volume = site.make_volume()
    with volume_lock(site.state, volume):
        client = site.begin_to_remove(volume)
        wait_until(lambda: site.waiting(volume) == 1, 240)
        client.kill()
        client.communicate()
        again = site.begin_to_remove(volume)
        wait_until(lambda: site.waiting(volume) == 2, 240)
    again.communicate(timeout=240)
    wait_until(lambda: not site.has(volume) or site.remove(volume).returncode == 0, 240)
    assert len(site.program.snapshots(volume)) == 1


def test_a_gate_that_dies_lets_nothing_through(site: Site) -> None:
    """G3: killed while it holds a request; the engine asks the next one with an empty body: denied."""
    volume = site.make_volume()
    with volume_lock(site.state, volume):
        client = site.begin_to_remove(volume)
        wait_until(lambda: site.waiting(volume) == 1, 240)
        site.gate.kill()
        site.gate.start()
        _, said = client.communicate(timeout=240)
        assert client.returncode == 1, said
        assert site.has(volume)
    assert site.remove(volume).returncode == 0
    assert site.program.snapshots(volume)


@pytest.fixture
def daemon(site: Site) -> Iterator[Daemon]:
    """A daemon that answers."""
    started = Daemon(site.program)
    try:
        started.wait_for("daemon started")
        wait_until((site.state / "backupd.sock").exists)
        yield started
    finally:
        started.process.kill()
        started.wait()


def test_a_daemon_that_runs_is_asked(site: Site, daemon: Daemon) -> None:
    """It saves the volume, and nothing else does."""
    volume = site.make_volume()
    assert site.remove(volume).returncode == 0
    assert not site.has(volume)
    snapshot = site.program.snapshots(volume)[-1]
    assert daemon.wait_for("volume may go", volume=volume)["snapshot"] == snapshot


def test_a_daemon_that_dies_meanwhile_is_replaced(site: Site, daemon: Daemon) -> None:
    """Killed in the middle of what the gate asked for: the gate has a backup made itself."""
    volume = site.make_volume()
    with volume_lock(site.state, volume):
        client = site.begin_to_remove(volume)
        wait_until(lambda: site.waiting(volume) == 1, 240)
        daemon.process.kill()
        daemon.wait()
    _, said = client.communicate(timeout=240)
    assert client.returncode == 0, said
    assert not site.has(volume)
    assert site.program.snapshots(volume)
