"""What the engine has, and its news."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from backupd.engine.client import Engine
from backupd.engine.discovery import VolumeEvent, events, survey
from backupd.errors import VolumeNotFound
from tests.docker.conftest import TEST_LABEL, MakeVolume, StartContainer

pytestmark = pytest.mark.docker


def test_survey_tells_who_uses_a_volume(
    engine: Engine, make_volume: MakeVolume, start_container: StartContainer
) -> None:
    """A volume's users are known with their state and whether they write."""
    name = make_volume(labels={"backupd.enable": "true"})
    running = start_container("sleep 600", name)
    created = start_container("true", name, start=False)
    found = survey(engine)
    assert found.volume(name).labels == {TEST_LABEL: "true", "backupd.enable": "true"}
    users = {user.id: user for user in found.users(name)}
    assert users[running].state == "running"
    assert users[created].state == "created"
    assert users[running].writes(name)
    assert users[running].mounts[0].destination == "/volume"


def test_survey_suggests_names(engine: Engine, make_volume: MakeVolume) -> None:
    """I20: a survey answers a misspelt name like the engine does."""
    name = make_volume("backupd-test-invoices")
    with pytest.raises(VolumeNotFound) as caught:
        survey(engine).volume(name.replace("invoices", "invoces"))
    assert caught.value.hint
    assert name in caught.value.hint


@pytest.fixture
def news(engine: Engine) -> Iterator[queue.Queue[VolumeEvent]]:
    """The events of the engine as they arrive."""
    stop = threading.Event()
    arrived: queue.Queue[VolumeEvent] = queue.Queue()

    def listen() -> None:
        for event in events(engine, stop):
            arrived.put(event)

    listener = threading.Thread(target=listen)
    listener.start()
    yield arrived
    stop.set()
    listener.join(timeout=30)
    assert not listener.is_alive()


def _next(news: queue.Queue[VolumeEvent], kind: str, name: str) -> VolumeEvent:
    """The next event of that kind and name; other tests' events pass by."""
    while True:
        event = news.get(timeout=30)
        if (event.kind, event.name) == (kind, name):
            return event


def test_new_volume_is_news(engine: Engine, make_volume: MakeVolume, news: queue.Queue[VolumeEvent]) -> None:
    """The subscription is announced, then the birth and the death of a volume."""
    assert news.get(timeout=30).kind == "subscribed"
    name = make_volume()
    assert _next(news, "volume", name).action == "create"
    engine.api.remove_volume(name)
    assert _next(news, "volume", name).action == "destroy"


def test_new_container_is_news(start_container: StartContainer, news: queue.Queue[VolumeEvent]) -> None:
    """A container may bring labels for a volume: it is announced."""
    assert news.get(timeout=30).kind == "subscribed"
    start_container("true", name="backupd-test-newcomer", start=False)
    assert _next(news, "container", "backupd-test-newcomer").action == "create"
