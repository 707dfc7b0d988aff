"""What a request would destroy, however it is written."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.gate.request import NOTHING, Reach, Removal, removal
from tests.unit.gate.spellings import HARMLESS, REDIRECTED, REMOVING, VOLUME, spelled, spellings

NAMES = st.text(string.ascii_letters + string.digits + "_.-", min_size=1).filter(
    lambda name: name not in (".", "..")
)


@pytest.mark.parametrize("pattern", [*REMOVING, *REDIRECTED])
@pytest.mark.parametrize("method", ["DELETE", "delete", "Purge"])
def test_a_removal_is_seen_through_its_spelling(method: str, pattern: str) -> None:
    """The volume is named as the engine names it; a method that nobody knows is taken for the worst."""
    assert removal(method, spelled(pattern, VOLUME)) == Removal(Reach.NAMED, VOLUME)


@pytest.mark.parametrize("pattern", HARMLESS)
def test_what_destroys_no_named_volume_is_let_be(pattern: str) -> None:
    """Other routes, and containers with their anonymous volumes, are no business of the gate."""
    assert removal("DELETE", spelled(pattern, VOLUME)) == NOTHING


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "get"])
@pytest.mark.parametrize("pattern", [*REMOVING, *REDIRECTED, *HARMLESS, "/volumes/%zz", "/volumes/prune"])
def test_reading_destroys_nothing(method: str, pattern: str) -> None:
    """Whatever the target is."""
    assert removal(method, spelled(pattern, VOLUME)) == NOTHING


@pytest.mark.parametrize(
    "target",
    [
        "/volumes/prune",
        "/v1.41/volumes/prune",
        "/v1.42/volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D",
        "/v1.44/volumes/prune?filters=%7B%22label%22%3A%5B%22a%22%5D%7D",
        "/volumes/%70rune",
        "http://localhost/volumes/prune",
        "/volumes//prune/",
        "/Volumes/Prune",
    ],
)
def test_a_prune_takes_all_that_can_be_pruned(target: str) -> None:
    """Whatever the filters in the query say: others may be in a form, which nobody shows."""
    assert removal("POST", target) == Removal(Reach.PRUNABLE)


@pytest.mark.parametrize(
    "target", ["/volumes/create", "/containers/prune", "/containers/x/stop", "/build/prune"]
)
def test_other_posts_are_let_be(target: str) -> None:
    """A pruned container leaves its volumes."""
    assert removal("POST", target) == NOTHING


def test_volumes_called_like_routes_are_volumes() -> None:
    """A volume may be called prune or create."""
    assert removal("DELETE", "/volumes/prune") == Removal(Reach.NAMED, "prune")
    assert removal("DELETE", "/volumes/create") == Removal(Reach.NAMED, "create")


def test_a_plugin_takes_what_its_volumes_keep_in_it() -> None:
    """Removing a volume plugin reaches the volumes that the engine's own driver does not keep."""
    assert removal("DELETE", "/v1.41/plugins/vieux/sshfs:latest?force=1") == Removal(Reach.FOREIGN)
    assert removal("POST", "/plugins/vieux/sshfs/disable") == NOTHING


@pytest.mark.parametrize("target", ["/volumes/%", "/volumes/%z1", "/volumes/a%ff", "/volumes/\ufffd", "/%v"])
def test_what_no_engine_reads_is_unclear(target: str) -> None:
    """Broken escapes and bytes that are no UTF-8 name nothing that could be looked up."""
    assert removal("DELETE", target) == Removal(Reach.UNCLEAR)
    assert removal("POST", target) == Removal(Reach.UNCLEAR)


@given(st.data(), NAMES)
def test_every_spelling_of_a_removal_names_the_volume(data: st.DataObject, name: str) -> None:
    """Escapes, a version, a host and a query change nothing."""
    target = data.draw(spellings(f"/volumes/{name}"))
    assert removal("DELETE", target) == Removal(Reach.NAMED, name)


@given(st.data())
def test_every_spelling_of_a_prune_is_one(data: st.DataObject) -> None:
    """Escapes, a version, a host and a query change nothing."""
    assert removal("POST", data.draw(spellings("/volumes/prune"))) == Removal(Reach.PRUNABLE)


@given(st.text(), st.text())
def test_any_request_has_an_answer(method: str, target: str) -> None:
    """Nothing that can be sent makes the reader fail, and it says the same when it is asked again."""
    assert removal(method, target) == removal(method, target)


@given(st.text(alphabet="/%.:?#v12o3volumesprunex25e2f", max_size=40))
def test_cleaning_a_path_twice_changes_nothing(target: str) -> None:
    """What was found names a volume whose own path names it again."""
    found = removal("DELETE", target)
    if found.reach is Reach.NAMED and "%" not in found.volume and "?" not in found.volume:
        assert removal("DELETE", f"/volumes/{found.volume}") == found
