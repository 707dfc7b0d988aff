"""Which volumes are read together."""

from __future__ import annotations

import pytest

from backupd.errors import ConfigError
from backupd.group import groups
from backupd.protection import Policy, Protection, group_name, resolve
from backupd.retention import Retention
from backupd.volume import Volume

DEFAULTS = Policy("@daily", "pause", (), Retention.parse("last=3"))


def protected(name: str, project: str | None = None, **labels: str) -> Protection:
    own = {f"backupd.{key}": value for key, value in labels.items()} | {"backupd.enable": "true"}
    if project:
        own["com.docker.compose.project"] = project
    return resolve(Volume(name, "local", {}, own), (), (), DEFAULTS)


def members(*protections: Protection) -> list[tuple[str, ...]]:
    return [group.volumes for group in groups(protections)]


def test_a_projects_volumes_with_one_schedule_are_together() -> None:
    """Those of another project, of none, or with another schedule are not."""
    assert members(
        protected("shop_db", "shop"),
        protected("blog_db", "blog"),
        protected("shop_logs", "shop", schedule="@hourly"),
        protected("shop_uploads", "shop"),
        protected("alone"),
    ) == [("shop_db", "shop_uploads"), ("blog_db",), ("shop_logs",), ("alone",)]


def test_a_label_makes_a_group_across_projects_and_within_one() -> None:
    """The same name is the same group; what is named nowhere else stays with its project."""
    assert members(
        protected("shop_db", "shop", group="books"),
        protected("shop_uploads", "shop"),
        protected("shop_cache", "shop"),
        protected("erp_db", "erp", group="books"),
    ) == [("shop_db", "erp_db"), ("shop_uploads", "shop_cache")]


@pytest.mark.parametrize("value", ["", "none"])
def test_a_volume_can_stay_alone(value: str) -> None:
    """An empty group, or none."""
    assert members(protected("shop_db", "shop"), protected("shop_big", "shop", group=value)) == [
        ("shop_db",),
        ("shop_big",),
    ]


def test_what_is_not_protected_is_in_no_group() -> None:
    """Nobody asked for it."""
    assert members(resolve(Volume("v", "local", {}, {}), (), (), DEFAULTS)) == []


def test_a_group_of_one_is_its_volume() -> None:
    """Its time does not change with the project around it."""
    (alone,) = groups([protected("shop_db", "shop")])
    assert (alone.name, alone.seed) == ("shop_db", "shop_db")
    together = groups([protected("shop_db", "shop"), protected("shop_uploads", "shop")])
    assert [group.seed for group in together] == ["shop"]


def test_keys_are_unique() -> None:
    """A project, a group of that name, its other schedules, and a volume of that name."""
    found = groups(
        [
            *(protected(f"shop_{n}", "shop") for n in range(2)),
            *(protected(f"shop_h{n}", "shop", schedule="@hourly") for n in range(2)),
            *(protected(f"erp_{n}", "erp", group="shop") for n in range(2)),
            protected("shop"),
        ]
    )
    assert len({group.key for group in found}) == len(found) == 4


def test_a_group_has_a_plain_name() -> None:
    """Anything else is a mistake."""
    assert group_name("books-2") == "books-2"
    with pytest.raises(ConfigError, match="no name for a group"):
        group_name("a b")
