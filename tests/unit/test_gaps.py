"""What nobody protects is told of, with what to do; what is settled is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.gaps import Content, Gap, gaps
from backupd.operations.unprotected import Reported
from backupd.protection import Policy, resolve
from backupd.retention import Retention
from backupd.volume import Container, Mount, Volume

DEFAULTS = Policy("@daily", "pause", (), Retention.parse("last=3"))
PROJECT = {"com.docker.compose.project": "shop"}


def volume(name: str = "data", **labels: str) -> Volume:
    return Volume(name, "local", {}, labels)


def user(*volumes: str, writes: bool = True, **labels: str) -> Container:
    mounts = tuple(Mount(name, f"/{name[:5]}", read_write=writes) for name in volumes)
    return Container("id", "app", "app", "running", labels, mounts)


def find(
    subject: Volume, *users: Container, content: Content | None = None, everything: bool = False
) -> tuple[Gap, ...]:
    protection = resolve(subject, users, (), DEFAULTS, everything=everything)
    return gaps([protection], lambda _: users, lambda _: content)


def test_a_protected_volume_that_nothing_writes_to() -> None:
    """A reader is not enough; a stopped container is."""
    protected = volume(**{"backupd.enable": "true"})
    assert [gap.kind for gap in find(protected)] == ["idle"]
    assert [gap.users for gap in find(protected, user("data", writes=False))] == [("app",)]
    assert find(protected, user("data")) == ()


def test_a_volume_that_nobody_spoke_of() -> None:
    """Who uses it and how much it holds are told, and the label that settles it."""
    (gap,) = find(volume(), user("data"), content=Content(300, whole=True))
    assert (gap.kind, gap.users, gap.content) == ("unlabelled", ("app",), Content(300, whole=True))
    assert gap.hint == "label container app: backupd.volume.data.enable=true (or false)"


def test_in_a_compose_project_the_label_has_the_short_name() -> None:
    """As it stands in the compose file."""
    labels = {**PROJECT, "com.docker.compose.volume": "up"}
    (gap,) = find(
        volume("shop_up", **labels), user("shop_up", **PROJECT, **{"com.docker.compose.service": "web"})
    )
    assert gap.hint == "label service web: backupd.volume.up.enable=true (or false)"


def test_a_volume_that_nobody_uses_is_named_in_a_rule() -> None:
    """There is no container to label, and a volume gets no new labels."""
    (gap,) = find(volume())
    assert '[[volume]] match = "data"' in gap.hint


def test_who_says_false_is_left_alone() -> None:
    """A decision has been made."""
    assert find(volume(**{"backupd.enable": "false"}), user("data")) == ()


@pytest.mark.parametrize(
    "anonymous", [volume("0123456789abcdef" * 4), volume("odd", **{"com.docker.volume.anonymous": ""})]
)
def test_an_anonymous_volume_that_holds_something(anonymous: Volume) -> None:
    """An empty one is no loss; with `protect = "all"` it is still told of, as it goes with its container."""
    app = user(anonymous.name)
    (gap,) = find(anonymous, app, content=Content(1, whole=True))
    assert gap.kind == "anonymous"
    assert "a named volume" in gap.hint
    assert find(anonymous, app, content=Content(0, whole=True)) == ()
    assert find(anonymous, app, content=Content(1, whole=True), everything=True) == (gap,)


def test_where_all_are_protected_nothing_is_unlabelled() -> None:
    """The volume is protected, and who says so is told."""
    assert find(volume(), user("data"), everything=True) == ()
    assert resolve(volume(), (), (), DEFAULTS, everything=True).origin == 'protect = "all"'
    assert resolve(volume(**{"backupd.enable": "false"}), (), (), DEFAULTS, everything=True).policy is None


def test_each_gap_is_told_of_once(tmp_path: Path) -> None:
    """By this process or the next; and again if it was gone in between."""
    found = find(volume())
    assert Reported(tmp_path).new(found) == found
    assert Reported(tmp_path).new(found) == ()
    assert Reported(tmp_path).new(()) == ()
    assert Reported(tmp_path).new(found) == found


def test_a_damaged_memory_tells_once_more(tmp_path: Path) -> None:
    """Better twice than never."""
    found = find(volume())
    Reported(tmp_path).new(found)
    for path in tmp_path.iterdir():
        path.write_text("{")
    assert Reported(tmp_path).new(found) == found
    assert Reported(tmp_path / "absent").new(found) == found
