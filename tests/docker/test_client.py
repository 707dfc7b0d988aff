"""The connection to a real engine, and what is said when there is none."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from backupd.engine.client import Engine
from backupd.errors import EngineUnreachable, VolumeInUse, VolumeNotFound
from backupd.volume import Volume
from tests.docker.conftest import TEST_LABEL, MakeVolume, StartContainer

pytestmark = pytest.mark.docker


def test_connection_knows_the_engine(engine: Engine) -> None:
    """Who answers is known by id, name, version and kernel."""
    assert engine.id
    assert engine.name
    assert engine.version[0].isdigit()
    assert engine.kernel == os.uname().release


def test_absent_socket_says_what_to_do(tmp_path: Path) -> None:
    """An engine that is not there is named as such, with a hint."""
    with pytest.raises(EngineUnreachable, match="does not exist") as caught:
        Engine.connect(f"unix://{tmp_path}/none.sock")
    assert caught.value.hint
    assert "DOCKER_HOST" in caught.value.hint


def test_socket_without_a_listener_says_what_to_do(tmp_path: Path) -> None:
    """A socket that nobody serves any more is no hang and no traceback."""
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(tmp_path / "dead.sock"))
    with pytest.raises(EngineUnreachable, match="refused") as caught:
        Engine.connect(f"unix://{tmp_path}/dead.sock")
    assert caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_socket_without_permission_says_what_to_do(tmp_path: Path) -> None:
    """A user who may not open the socket is told about its group."""
    path = tmp_path / "closed.sock"
    tmp_path.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(EngineUnreachable) as caught:
                Engine.connect(f"unix://{path}")
        finally:
            os.seteuid(0)
    assert "no permission" in caught.value.message
    assert caught.value.hint
    assert "group" in caught.value.hint


@pytest.mark.parametrize("host", ["gopher://x", "ssh://nobody@localhost", "tcp://127.0.0.1:1"])
def test_unusable_host_is_unreachable(host: str) -> None:
    """An address that cannot lead to an engine is one clear error."""
    with pytest.raises(EngineUnreachable):
        Engine.connect(host)


def test_each_thread_has_its_own_client(engine: Engine) -> None:
    """Sessions of docker-py are never shared between threads."""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(engine.api))
    thread.start()
    thread.join()
    assert seen[0] is not engine.api
    assert engine.api is engine.api


def test_misspelt_volume_gets_the_nearest_names(engine: Engine, make_volume: MakeVolume) -> None:
    """I20: a misspelt volume name is an error with the nearest names."""
    name = make_volume("backupd-test-orders")
    with pytest.raises(VolumeNotFound) as caught:
        engine.volume(name.replace("orders", "order"))
    assert caught.value.hint
    assert name in caught.value.hint


def test_volume_without_its_project_prefix_gets_the_full_name(
    engine: Engine, make_volume: MakeVolume
) -> None:
    """I20: the name a compose file gives is answered with the one that the engine knows."""
    name = make_volume("backupd-test-shop_postgres")
    with pytest.raises(VolumeNotFound) as caught:
        engine.volume(name.rpartition("_")[2])
    assert caught.value.hint
    assert name in caught.value.hint


@pytest.mark.parametrize("name", ["", "/", "/etc", "a/b", "../volumes", ".", "?x=1"])
def test_impossible_volume_name_is_not_found(engine: Engine, name: str) -> None:
    """I20: a name that is a path or empty is no volume and never another request."""
    with pytest.raises(VolumeNotFound):
        engine.volume(name)


def test_volume_is_made_with_options_and_labels(engine: Engine, make_volume: MakeVolume) -> None:
    """A volume comes back as it was described; a taken name is refused."""
    name = make_volume("backupd-test-original")
    engine.api.remove_volume(name)
    wanted = Volume(name, "local", {"type": "tmpfs", "device": "tmpfs"}, {TEST_LABEL: "true", "a": "b"})
    engine.create_volume(wanted)
    assert engine.volume(name) == wanted
    with pytest.raises(VolumeInUse, match="exists already"):
        engine.create_volume(wanted)


def test_volume_in_use_is_not_removed(
    engine: Engine, make_volume: MakeVolume, start_container: StartContainer
) -> None:
    """A volume that a container refers to stays; a free one goes, and once more is no error."""
    name = make_volume()
    user = start_container("true", name, start=False)
    with pytest.raises(VolumeInUse, match=name):
        engine.remove_volume(name)
    engine.api.remove_container(user)
    engine.remove_volume(name)
    engine.remove_volume(name)
