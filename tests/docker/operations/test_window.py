"""Volumes that are read together: one quiet, one moment, and each its own snapshot."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from backupd.errors import HelperFailed, VolumeNotFound
from backupd.operations.taking import Taken
from backupd.operations.window import READERS
from backupd.progress import Tally
from backupd.treatment import Mode
from tests.docker.conftest import MakeVolume, RunInVolume, StartContainer
from tests.docker.operations.conftest import Site

pytestmark = pytest.mark.docker

LEDGER = "i=0; while :; do i=$((i+1)); echo $i >/a/.n; mv /a/.n /a/n; echo $i >/b/.n; mv /b/.n /b/n; done"
"""Writes each number into one volume, then into the other."""


def start_on(site: Site, script: str, **volumes: str) -> str:
    """A container that runs a script with each volume at /<key>; the volumes' fixture removes it."""
    api = site.context.engine.api
    container: str = api.create_container(
        "backupd-test-tools",
        ["sh", "-c", script],
        labels={"backupd.test": "true"},
        host_config=api.create_host_config(
            binds=[f"{volume}:/{place}" for place, volume in volumes.items()], network_mode="none"
        ),
    )["Id"]
    api.start(container)
    return container


def pauses(site: Site, container: str, since: int) -> int:
    """How often the engine has paused the container."""
    events = site.context.engine.api.events(
        since=since,
        until=int(time.time()) + 1,
        filters={"container": container, "event": "pause"},
        decode=True,
    )
    return len(list(events))


def wait_for(site: Site, container: str, file: str) -> None:
    """Wait until the container has written a file."""
    poll = threading.Event()
    for _ in range(600):
        command = site.context.engine.api.exec_create(container, ["test", "-s", file])["Id"]
        site.context.engine.api.exec_start(command)
        if site.context.engine.api.exec_inspect(command)["ExitCode"] == 0:
            return
        poll.wait(0.1)
    raise AssertionError(f"{file} was not written")


def test_volumes_read_together_belong_together(
    site: Site, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """What one application writes into two volumes is as it was at one moment."""
    first, second = make_volume(), make_volume()
    run_in_volume(first, "head -c 40000000 /dev/urandom >noise")
    since = int(time.time())
    writer = start_on(site, LEDGER, a=first, b=second)
    wait_for(site, writer, "/b/n")

    manifests = [result.taken.manifest for result in site.together(first, second)]

    assert [manifest.consistency for manifest in manifests] == ["crash-consistent"] * 2
    assert pauses(site, writer, since) == 1
    assert not site.context.engine.api.inspect_container(writer)["State"]["Paused"]
    numbers = []
    for manifest in manifests:
        target = make_volume()
        site.restore(manifest, to=target)
        numbers.append(int(run_in_volume(target, "cat n")))
    assert numbers[0] - numbers[1] in (0, 1)


def test_snapshots_of_one_window_name_each_other(site: Site, make_volume: MakeVolume) -> None:
    """The same run, the same volumes and the same times in each manifest; alone there is nothing of it."""
    first, second = make_volume(), make_volume()
    windows = [result.taken.manifest.window for result in site.together(first, second)]
    assert windows[0] is not None
    assert windows[0] == windows[1]
    assert windows[0].volumes == (first, second)
    assert windows[0].began <= windows[0].ended
    assert site.context.repository.latest(site.context.host, first) == site.context.repository.find(first)
    assert "window" not in site.backup(first).as_json()


def test_more_volumes_than_are_read_at_once_share_one_quiet(
    site: Site, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """Those that wait for their turn are read before the containers go on."""
    volumes = [make_volume() for _ in range(READERS + 3)]
    for volume in volumes:
        run_in_volume(volume, "head -c 1000000 /dev/urandom >noise; echo $RANDOM >n")
    since = int(time.time())
    writer = start_on(
        site, "while :; do date >/first/now; date >/last/now; done", first=volumes[0], last=volumes[-1]
    )
    wait_for(site, writer, "/last/now")
    manifests = [result.taken.manifest for result in site.together(*volumes)]
    assert [manifest.volume.name for manifest in manifests] == volumes
    assert {manifest.members["file"] for manifest in manifests} <= {2, 3}
    assert pauses(site, writer, since) == 1
    assert [manifests[0].consistency, manifests[-1].consistency] == ["crash-consistent"] * 2
    assert manifests[1].consistency == "clean-stop"


def test_a_volume_that_fails_does_not_lose_the_others(
    site: Site, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """E13: one is not there, the helper of another is killed while it reads; the third is saved."""
    killed, sound = make_volume(), make_volume()
    run_in_volume(killed, "head -c 150000000 /dev/urandom >noise")
    run_in_volume(sound, "echo precious >file")
    writer = start_on(site, "while :; do date >/a/now; date >/b/now; done", a=killed, b=sound)
    wait_for(site, writer, "/b/now")
    api, struck = site.context.engine.api, threading.Event()

    def kill(_: Tally) -> None:
        if not struck.is_set():
            struck.set()
            labels = [f"backupd.instance={site.context.instance}"]
            for helper in api.containers(filters={"label": labels, "volume": killed}):
                api.kill(helper["Id"])

    results = site.fulfil(site.wish(f"{sound}x"), site.wish(killed, progress=kill), site.wish(sound))

    assert isinstance(results[0].outcome, VolumeNotFound)
    assert isinstance(results[1].outcome, HelperFailed)
    assert isinstance(results[2].outcome, Taken)
    assert [entry.volume.name for entry in site.context.repository.snapshots()] == [sound]
    assert results[2].outcome.manifest.consistency == "crash-consistent"
    assert not api.inspect_container(writer)["State"]["Paused"]
    assert site.context.journal.changes == ()


@pytest.mark.parametrize("mode", ["pause", "none"])
def test_a_file_that_changes_while_it_is_read(
    site: Site, make_volume: MakeVolume, start_container: StartContainer, tmp_path: Path, mode: Mode
) -> None:
    """E15: somebody outside the engine writes: under pause a failure, under none kept; the file is named."""
    place = tmp_path / "data"
    place.mkdir()
    (place / "ledger").write_bytes(os.urandom(60_000_000))
    changed, whole = make_volume(type="none", o="bind", device=str(place)), make_volume()
    start_container("sleep 1000", changed)
    with subprocess.Popen(["sh", "-c", f"while :; do echo x >>{place}/ledger; done"]) as writer:
        results = site.together(changed, whole, mode=mode)
        writer.kill()
    assert isinstance(results[1].outcome, Taken)
    if mode == "pause":
        assert isinstance(results[0].outcome, HelperFailed)
        assert "ledger" in results[0].outcome.message
    else:
        manifest = results[0].taken.manifest
        assert (manifest.outcome, manifest.consistency) == ("fuzzy", "fuzzy")
        assert "ledger" in manifest.warnings[0]


def test_each_volume_of_a_window_has_its_own_consistency(
    site: Site, make_volume: MakeVolume, start_container: StartContainer
) -> None:
    """One asked for pause; another asked for none, and one of its writers ran on."""
    quiet, loud = make_volume(), make_volume()
    both = start_on(site, "while :; do date >/a/now; date >/b/now; done", a=quiet, b=loud)
    start_container("while :; do date >/volume/then; done", loud)
    wait_for(site, both, "/b/now")
    results = site.fulfil(site.wish(quiet), site.wish(loud, mode="none"))
    assert [result.taken.manifest.consistency for result in results] == ["crash-consistent", "fuzzy"]
