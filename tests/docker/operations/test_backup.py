"""Snapshots of real volumes: what they hold, what they say of themselves, and what they leave behind."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backupd.errors import (
    BackupdError,
    HelperFailed,
    Interrupted,
    StorageError,
    StorageFull,
    VolumeNotFound,
)
from backupd.operations.backup import backup
from backupd.progress import Tally
from backupd.treatment import Treatment
from backupd.volume import Container, Volume
from tests.docker.conftest import MakeVolume, RunInVolume, StartContainer
from tests.docker.operations.conftest import Site
from tests.faults import FaultyStorage

pytestmark = pytest.mark.docker

WRITER = "i=0; while :; do i=$((i+1)); echo $i >>/volume/log; done"


def paused_meanwhile(_volume: Volume, _container: Container) -> Treatment:
    """What is done to every writer."""
    return Treatment("pause")


def paused(site: Site, container: str) -> bool:
    """Whether the engine says that the container is paused."""
    return bool(site.context.engine.api.inspect_container(container)["State"]["Paused"])


def helpers(site: Site) -> list[str]:
    """The helpers of this site that the engine has."""
    label = f"backupd.instance={site.context.instance}"
    return [found["Id"] for found in site.context.engine.api.containers(all=True, filters={"label": label})]


def test_an_empty_volume_has_a_valid_empty_snapshot(site: Site, make_volume: MakeVolume) -> None:
    """I10: one member, the root directory."""
    manifest = site.backup(make_volume())
    assert manifest.members == {"directory": 1}
    assert manifest.consistency == "clean-stop"
    assert site.context.repository.find(manifest.volume.name) == manifest


def test_a_misspelt_volume_is_not_created(site: Site, make_volume: MakeVolume) -> None:
    """I20: the error names the nearest, and the engine has no new volume."""
    name = make_volume("backupd-test-uploads")
    wrong = name.replace("uploads", "uplaods")
    with pytest.raises(VolumeNotFound) as caught:
        site.backup(wrong)
    assert name in str(caught.value.hint)
    names = {volume["Name"] for volume in site.context.engine.api.volumes()["Volumes"]}
    assert wrong not in names


def test_a_running_writer_is_paused_while_tar_reads_and_not_longer(
    site: Site, make_volume: MakeVolume, start_container: StartContainer, run_in_volume: RunInVolume
) -> None:
    """Quiesce ends when tar ends: the writer runs again before the last chunk is stored."""
    volume = make_volume()
    run_in_volume(volume, "head -c 3000000 /dev/urandom >noise")
    writer = start_container(WRITER, volume)
    states: list[bool] = []
    ended = threading.Event()

    def watch(call: str) -> StorageError | None:
        if call.startswith("put snapshots/"):
            states.append(paused(site, writer))
            ended.set()
        return None

    manifest = site.on(FaultyStorage(site.storage, fail_when=watch)).backup(volume)
    assert manifest.consistency == "crash-consistent"
    assert len(manifest.quiesced.containers) == 1
    assert manifest.quiesced.seconds > 0
    assert states == [False]
    assert not paused(site, writer)
    assert site.context.journal.changes == ()


def test_without_quiesce_a_snapshot_says_that_it_is_fuzzy(
    site: Site, make_volume: MakeVolume, start_container: StartContainer
) -> None:
    """The truth about a volume that was read while it was written."""
    volume = make_volume()
    start_container(WRITER, volume)
    manifest = site.backup(volume, mode="none")
    assert manifest.consistency == "fuzzy"
    assert manifest.quiesced.containers == ()


def test_a_container_that_was_paused_or_stopped_stays_so(
    site: Site, make_volume: MakeVolume, start_container: StartContainer
) -> None:
    """E4: left that way."""
    volume = make_volume()
    first, second = start_container(WRITER, volume), start_container(WRITER, volume, start=False)
    site.context.engine.api.pause(first)
    manifest = site.backup(volume)
    assert manifest.consistency == "crash-consistent"
    assert manifest.quiesced.containers == ()
    assert paused(site, first)
    assert site.context.engine.api.inspect_container(second)["State"]["Status"] == "created"
    site.context.engine.api.unpause(first)


def test_a_reader_of_the_volume_is_not_paused(
    site: Site, make_volume: MakeVolume, start_container: StartContainer
) -> None:
    """Only who can write is stopped from writing."""
    volume = make_volume()
    start_container("sleep 1000", f"{volume}", name=None)
    api = site.context.engine.api
    reader = api.create_container(
        "backupd-test-tools",
        ["sleep", "1000"],
        labels={"backupd.test": "true"},
        host_config=api.create_host_config(binds=[f"{volume}:/volume:ro"]),
    )["Id"]
    api.start(reader)
    name = api.inspect_container(reader)["Name"].lstrip("/")
    manifest = site.backup(volume)
    assert len(manifest.quiesced.containers) == 1
    assert name not in manifest.quiesced.containers


def _cancel_at_once(site: Site, cancel: threading.Event) -> None:
    cancel.set()


def _kill_helper(site: Site, cancel: threading.Event) -> None:
    for helper in helpers(site):
        site.context.engine.api.kill(helper)


@pytest.mark.parametrize(
    ("blow", "error"), [(_cancel_at_once, Interrupted), (_kill_helper, HelperFailed)], ids=["cancel", "kill"]
)
def test_a_backup_that_is_stopped_leaves_everything_as_it_was(
    site: Site,
    make_volume: MakeVolume,
    start_container: StartContainer,
    run_in_volume: RunInVolume,
    blow: Callable[[Site, threading.Event], None],
    error: type[BackupdError],
) -> None:
    """E3, E13, E14: cancelled or its helper killed in the middle: no snapshot, no helper, the writer runs."""
    volume = make_volume()
    run_in_volume(volume, "head -c 150000000 /dev/urandom >noise")
    writer = start_container(WRITER, volume)
    cancel = threading.Event()
    struck = threading.Event()

    def strike(_: Tally) -> None:
        if not struck.is_set():
            struck.set()
            blow(site, cancel)

    with pytest.raises(error):
        backup(site.context, volume, treat=paused_meanwhile, progress=strike, cancel=cancel)
    assert struck.is_set()
    assert site.context.repository.snapshots() == []
    assert helpers(site) == []
    assert not paused(site, writer)


def test_a_full_disk_leaves_the_application_running(
    site: Site, make_volume: MakeVolume, start_container: StartContainer, run_in_volume: RunInVolume
) -> None:
    """R1: the storage has no room: earlier snapshots are whole, the writer runs, nothing is left."""
    volume = make_volume()
    run_in_volume(volume, "echo first >file")
    earlier = site.backup(volume)
    run_in_volume(volume, "head -c 30000000 /dev/urandom >noise")
    writer = start_container(WRITER, volume)
    full = FaultyStorage(
        site.storage, fail_when=lambda call: StorageFull("no room") if call.startswith("put packs") else None
    )
    with pytest.raises(StorageFull):
        site.on(full).backup(volume)
    assert not paused(site, writer)
    assert helpers(site) == []
    assert site.context.repository.snapshots() == [earlier]


def test_what_is_excluded_is_not_in_the_snapshot(
    site: Site, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """Patterns as tar has them."""
    volume = make_volume()
    run_in_volume(volume, "mkdir cache keep; touch cache/a keep/b keep/c.tmp")
    manifest = site.backup(volume, exclude=("/cache/*", "*.tmp"))
    paths = {entry.path for entry in site.context.repository.reader(manifest).members()}
    assert paths == {b"./", b"./cache/", b"./keep/", b"./keep/b"}


def test_shell_characters_in_a_label_reach_no_shell(
    site: Site, make_volume: MakeVolume, run_in_volume: RunInVolume, tmp_path: Path
) -> None:
    """I4: what a label holds is an argument of tar, whatever it looks like; nothing of it is executed."""
    volume = make_volume()
    run_in_volume(volume, "touch kept '$(id)'")
    bait = tmp_path / "bait"
    manifest = site.backup(
        volume, exclude=("$(id)", f"; touch {bait} #", f"`touch {bait}`", "--checkpoint-action")
    )
    paths = {entry.path for entry in site.context.repository.reader(manifest).members()}
    assert paths == {b"./", b"./kept"}
    assert not bait.exists()


def test_two_volumes_of_one_container_can_be_saved_at_once(
    site: Site, make_volume: MakeVolume, start_container: StartContainer, run_in_volume: RunInVolume
) -> None:
    """The container stands still until the later of the two has read it, and both snapshots say so."""
    first, second = make_volume(), make_volume()
    for volume in (first, second):
        run_in_volume(volume, "head -c 30000000 /dev/urandom >noise")
    api = site.context.engine.api
    container = api.create_container(
        "backupd-test-tools",
        ["sh", "-c", "while :; do date >/a/now; date >/b/now; done"],
        labels={"backupd.test": "true"},
        host_config=api.create_host_config(binds=[f"{first}:/a", f"{second}:/b"]),
    )["Id"]
    api.start(container)
    with ThreadPoolExecutor(2) as pool:
        manifests = list(pool.map(site.backup, (first, second)))
    assert [manifest.consistency for manifest in manifests] == ["crash-consistent"] * 2
    assert [len(manifest.quiesced.containers) for manifest in manifests] == [1, 1]
    assert not paused(site, container)


def test_secrets_in_labels_and_options_are_not_in_the_manifest(site: Site, make_volume: MakeVolume) -> None:
    """I21: a CIFS password, a token in a label; that they were left out is said."""
    volume = make_volume(labels={"api.token": "hunter2", "app": "shop", "dsn": "postgres://u:hunter3@db/x"})
    manifest = site.backup(volume)
    text = json.dumps(manifest.as_json())
    assert "hunter" not in text
    assert manifest.redacted == ("labels.api.token", "labels.dsn")
    assert manifest.volume.labels["app"] == "shop"


def test_the_volume_cannot_be_deleted_while_it_is_read(
    site: Site, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """E18: the engine refuses, as the helper refers to the volume; the snapshot is whole."""
    volume = make_volume()
    run_in_volume(volume, "head -c 60000000 /dev/urandom >noise")
    refused: list[str] = []

    def delete(_: Tally) -> None:
        if not refused:
            with pytest.raises(BackupdError) as caught:
                site.context.engine.remove_volume(volume)
            refused.append(caught.value.message)

    manifest = backup(site.context, volume, treat=paused_meanwhile, progress=delete, cancel=threading.Event())
    assert "in use" in refused[0]
    assert site.context.repository.find(volume) == manifest


def test_progress_reaches_the_size_of_the_stream(
    site: Site, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """What a progress bar shows is true in the end."""
    volume = make_volume()
    run_in_volume(volume, "for i in $(seq 50); do head -c 10000 /dev/urandom >f$i; done")
    seen: list[Tally] = [Tally(0)]
    cancel = threading.Event()
    manifest = backup(site.context, volume, treat=paused_meanwhile, progress=seen.append, cancel=cancel)
    assert seen[-1].bytes_done == manifest.bytes.tar
    assert seen[-1].members == sum(manifest.members.values()) == 51
