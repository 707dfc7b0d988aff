"""What is read out of a request is what a real engine does with it."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.gate.request import NOTHING, Reach, Removal, removal
from tests.docker.gate.raw import created, has_volume, make_volume, send
from tests.docker.own_engine import OwnEngine
from tests.unit.gate.spellings import HARMLESS, REDIRECTED, REMOVING, VOLUME, spelled, spellings

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def engine_with_image(own_engine: OwnEngine) -> OwnEngine:
    """An engine with the smallest image."""
    own_engine.load("alpine:3.22")
    return own_engine


def name() -> str:
    return f"shop-{uuid.uuid4().hex[:8]}"


def removes(engine: OwnEngine, method: str, target: str, volume: str) -> bool:
    """Does the engine remove the volume, asked like this? Then that must have been read out of it."""
    make_volume(engine.socket, volume)
    send(engine.socket, method, target)
    if has_volume(engine.socket, volume):
        return False
    assert removal(method, target) == Removal(Reach.NAMED, volume), target
    return True


def test_whatever_removes_a_volume_is_seen(own_engine: OwnEngine) -> None:
    """Of all spellings that are known, none that the engine obeys is overlooked."""
    obeyed = set()
    for pattern in (*REMOVING, *REDIRECTED):
        for method in ("DELETE", "delete"):
            if removes(own_engine, method, spelled(pattern, VOLUME), VOLUME):
                obeyed.add(pattern)
    assert {"/volumes/{name}", "/%76olumes/{name}", "http://localhost/volumes/{name}"} <= obeyed
    for pattern in HARMLESS:
        assert not removes(own_engine, "DELETE", spelled(pattern, VOLUME), VOLUME)


@settings(max_examples=60, deadline=None)
@given(target=spellings(f"/volumes/{VOLUME}"), method=st.sampled_from(["DELETE", "DELETE", "POST", "PUT"]))
def test_no_spelling_that_removes_is_overlooked(own_engine: OwnEngine, target: str, method: str) -> None:
    """Spellings made at random are put to the engine and to the reader."""
    removes(own_engine, method, target, VOLUME)


def test_a_container_takes_only_anonymous_volumes_along(engine_with_image: OwnEngine) -> None:
    """`DELETE /containers/ID?v=1` removes what the engine has named itself, and no volume with a name."""
    engine = engine_with_image
    volume = name()
    container = created(
        engine.socket,
        "/containers/create",
        {
            "Image": "alpine:3.22",
            "Cmd": ["true"],
            "Volumes": {"/anonymous": {}},
            "HostConfig": {"Binds": [f"{volume}:/named"], "NetworkMode": "none"},
        },
    )
    mounts = json.loads(send(engine.socket, "GET", f"/containers/{container}/json")[1])["Mounts"]
    anonymous = next(each["Name"] for each in mounts if each["Destination"] == "/anonymous")

    target = f"/containers/{container}?v=1&force=1"
    assert removal("DELETE", target) == NOTHING
    assert send(engine.socket, "DELETE", target)[0] == 204
    assert has_volume(engine.socket, volume)
    assert not has_volume(engine.socket, anonymous)


def test_a_pruned_container_leaves_its_volumes(engine_with_image: OwnEngine) -> None:
    """`POST /containers/prune` removes containers only."""
    engine = engine_with_image
    volume = name()
    body = {"Image": "alpine:3.22", "Cmd": ["true"], "HostConfig": {"Binds": [f"{volume}:/named"]}}
    container = created(engine.socket, "/containers/create", {**body, "NetworkDisabled": True})
    assert removal("POST", "/containers/prune") == NOTHING
    assert send(engine.socket, "POST", "/containers/prune")[0] == 200
    assert send(engine.socket, "GET", f"/containers/{container}/json")[0] == 404
    assert has_volume(engine.socket, volume)


def test_a_prune_obeys_filters_that_only_its_body_has(own_engine: OwnEngine) -> None:
    """Why a prune is taken for all that it may reach: named volumes go by a form that no plugin is shown."""
    volume = name()
    make_volume(own_engine.socket, volume, shop="yes")
    target = "/v1.42/volumes/prune" if has_api(own_engine, 42) else "/volumes/prune"
    form = b"filters=%7B%22all%22%3A%5B%22true%22%5D%2C%22label%22%3A%5B%22shop%3Dyes%22%5D%7D"
    if not has_api(own_engine, 42):
        form = b"filters=%7B%22label%22%3A%5B%22shop%3Dyes%22%5D%7D"
    assert removal("POST", target) == Removal(Reach.PRUNABLE)
    assert send(own_engine.socket, "POST", target, form, "application/x-www-form-urlencoded")[0] == 200
    assert not has_volume(own_engine.socket, volume)


def has_api(engine: OwnEngine, minor: int) -> bool:
    """Does the engine speak that version of its API?"""
    version = json.loads(send(engine.socket, "GET", "/version")[1])["ApiVersion"]
    return int(version.split(".")[1]) >= minor
