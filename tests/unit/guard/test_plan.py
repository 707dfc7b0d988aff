"""What becomes of each volume that may go: saved, named as not saved, or kept; all from one look."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.engine.discovery import Survey
from backupd.guard.plan import Plan, plan
from backupd.guard.removal import Project, Removal
from backupd.protection import Policy, Protection, resolve
from backupd.retention import Retention
from backupd.volume import COMPOSE_PROJECT, Container, Mount, Volume

NAMELESS = "ab" * 32
DEFAULTS = Policy(schedule="@daily", quiesce="pause", exclude=(), retention=Retention(last=1))
SHOP = Project("shop", frozenset({"shop_data", "unlabelled"}))
EVERYTHING = Removal(project=True, anonymous=True)


def volume(name: str, project: str | None = None, **labels: str) -> Volume:
    ours = {f"backupd.{key}": value for key, value in labels.items()}
    return Volume(name, "local", {}, ours | ({COMPOSE_PROJECT: project} if project else {}))


def container(name: str, *volumes: str, state: str = "running", project: str | None = None) -> Container:
    labels = {COMPOSE_PROJECT: project} if project else {}
    mounts = tuple(Mount(each, "/x", read_write=True) for each in volumes)
    return Container(f"{name}0123", name, "image", state, labels, mounts)


SEEN = Survey(
    volumes=(
        volume("shop_data", "shop", enable="true"),
        volume("shop_old", "shop"),
        volume("unlabelled", enable="true"),
        volume("other_data", "other", enable="true"),
        volume("loose", enable="true"),
        volume("held", enable="true", guard="hold"),
        volume(NAMELESS),
    ),
    containers=(
        container("db", "shop_data", NAMELESS, project="shop"),
        container("stopped", "other_data", state="exited"),
        container("made", "unlabelled", state="created"),
    ),
    held=frozenset({"held"}),
)


def protections(seen: Survey) -> list[Protection]:
    return [resolve(each, seen.users(each.name), (), DEFAULTS) for each in seen.volumes]


def planned(removal: Removal, seen: Survey = SEEN, project: Project | None = None) -> Plan:
    return plan(removal, seen, protections(seen), project)


def fates(made: Plan) -> dict[str, str]:
    return {item.volume: item.fate for item in made.items}


@pytest.mark.parametrize(
    ("removal", "taken"),
    [
        (Removal(), set()),
        (Removal(names=frozenset({"loose", "nowhere"})), {"loose"}),
        (Removal(prunable=True), {"loose", "shop_old"}),
        (Removal(unused=True), {"loose", "shop_old", "other_data", "unlabelled", "held"}),
        (Removal(project=True), {"shop_data", "shop_old", "unlabelled"}),
        (EVERYTHING, {"shop_data", "shop_old", "unlabelled", NAMELESS}),
        (Removal(anonymous=True), {NAMELESS}),
        (Removal(containers=frozenset({"db"})), {NAMELESS}),
        (Removal(containers=frozenset({"db01"})), {NAMELESS}),
        (Removal(containers=frozenset({"", "b", "other"})), set()),
    ],
)
def test_what_a_removal_takes_of_an_engine(removal: Removal, taken: set[str]) -> None:
    """By name, by label and by what compose's file says, by who uses it; nothing else."""
    assert set(fates(planned(removal, project=SHOP))) == taken


def test_each_volume_has_a_fate_and_a_reason() -> None:
    """Labelled ones are saved, others are named as not saved."""
    made = planned(EVERYTHING, project=SHOP)
    assert fates(made) == {
        "shop_data": "save",
        "shop_old": "unsaved",
        "unlabelled": "save",
        NAMELESS: "unsaved",
    }
    said = str(made)
    assert "saved first: shop_data (backupd.enable=true on volume shop_data); used by db" in said
    assert "NOT SAVED:   shop_old (no label and no rule says backupd.enable=true)" in said


def test_a_volume_that_is_taken_for_backupds_own_is_refused() -> None:
    """I6: labelled or not, whatever else is planned; from the same look that says what would go."""
    seen = replace(SEEN, own_volumes=frozenset({"shop_data", "shop_old"}))
    made = planned(EVERYTHING, seen, SHOP)
    assert fates(made)["shop_data"] == fates(made)["shop_old"] == "own"
    assert "REFUSED:     shop_data (volume shop_data holds backupd's own repository or state)" in str(made)
    assert {item.volume for item in made.of("own", "unknown")} == {"shop_data", "shop_old"}


def test_backupds_own_volumes_are_not_prunable() -> None:
    """They are in use by the container it runs in, which is not among those seen."""
    seen = replace(SEEN, own_volumes=frozenset({"loose"}))
    assert "loose" not in fates(planned(Removal(prunable=True, unused=True), seen))


def test_labels_in_error_are_refused() -> None:
    """Nobody can tell whether the volume is protected."""
    seen = Survey((volume("a", enable="ture"), volume("b", enable="true", guard="yes")), ())
    assert fates(planned(Removal(names=frozenset({"a", "b"})), seen)) == {"a": "unknown", "b": "unknown"}


def test_a_volume_of_which_nothing_was_said_is_refused() -> None:
    """A plan without a word on a volume that is there is no permission."""
    made = plan(Removal(names=frozenset({"loose"})), SEEN, [], None)
    assert fates(made) == {"loose": "unknown"}


def test_guard_off_is_named_as_not_saved() -> None:
    """`backupd.guard=off` on a protected volume."""
    seen = Survey((volume("a", enable="true", guard="off"), volume("b", guard="hold", enable="false")), ())
    made = planned(Removal(names=frozenset({"a", "b"})), seen)
    assert fates(made) == {"a": "unsaved", "b": "unsaved"}
    assert "backupd.guard is off" in str(made)


def test_a_held_volume_says_so() -> None:
    """So that a reader knows why it did not go before."""
    [item] = planned(Removal(names=frozenset({"held"}))).items
    assert item.held
    assert item.fate == "save"
