from __future__ import annotations

from collections.abc import Mapping

import pytest

from backupd.errors import ConfigError
from backupd.protection import Policy, Protection, Rule, resolve, treatment
from backupd.retention import Retention
from backupd.treatment import Hook, Treatment, merged
from backupd.volume import Container, Mount, Volume

DEFAULTS = Policy("@daily", "pause", (), Retention.parse("last=3 daily=7"))
COMPOSE = {"com.docker.compose.project": "shop", "com.docker.compose.volume": "pgdata"}


def volume(name: str = "shop_pgdata", **labels: str) -> Volume:
    """A volume with `backupd.` labels."""
    return Volume(name, "local", {}, prefixed(labels))


def container(name: str, labels: Mapping[str, str], *, writes: bool = True) -> Container:
    """A container of the project `shop` that mounts shop_pgdata."""
    mounts = (Mount("shop_pgdata", "/data", writes),)
    return Container(f"id-{name}", name, "app", "running", {**COMPOSE, **labels}, mounts)


def prefixed(labels: Mapping[str, str]) -> dict[str, str]:
    """Compose labels and the given ones under `backupd.`."""
    return {**COMPOSE, **{f"backupd.{key.replace('_', '-')}": value for key, value in labels.items()}}


def decide(subject: Volume, *users: Container, rules: tuple[Rule, ...] = ()) -> Protection:
    """Resolve with the test's defaults."""
    return resolve(subject, users, rules, DEFAULTS)


def policy(protection: Protection) -> Policy:
    """The policy of a volume that must be protected."""
    assert protection.policy is not None, protection
    assert protection.errors == ()
    return protection.policy


def test_enabled_volume_takes_the_defaults() -> None:
    """Zero configuration: a label is enough."""
    found = decide(volume(enable="true"))
    assert policy(found) == DEFAULTS
    assert found.origin == "backupd.enable=true on volume shop_pgdata"


def test_volume_without_labels_is_not_protected() -> None:
    """Nothing is backed up that nobody asked for, and the reason is said."""
    found = decide(volume(), container("db", {}))
    assert (found.policy, found.errors, found.warnings) == (None, (), ())
    assert found.origin == "no label and no rule says backupd.enable=true"


def test_every_key_of_a_label_is_read() -> None:
    """All labels of this version, on the volume."""
    labels = {"schedule": "5 4 * * *", "retention": "last=2", "quiesce": "none", "exclude": "*.tmp, cache/*"}
    expected = Policy("5 4 * * *", "none", ("*.tmp", "cache/*"), Retention(last=2))
    assert policy(decide(volume(enable="True", **labels))) == expected


HOOKS = {
    "pre": '["redis-cli", "save"]',
    "pre_user": "redis",
    "pre_timeout": "90s",
    "post": 'echo "$HOME" && sync',
    "post_user": "0:0",
    "post_timeout": "2m",
}


def test_hooks_are_read_from_labels_of_the_volume() -> None:
    """A JSON array is the exec form, any other text goes to the container's own sh."""
    found = policy(decide(volume(enable="true", quiesce="stop", **HOOKS)))
    assert treatment(volume(quiesce="stop", **HOOKS), found, container("db", {})) == Treatment(
        "stop",
        pre=(Hook(("redis-cli", "save"), "redis", 90.0),),
        post=(Hook(("sh", "-c", 'echo "$HOME" && sync'), "0:0", 120.0),),
    )


def test_each_container_is_treated_as_it_says_itself() -> None:
    """Mixed: containers that differ are no conflict, and one that says nothing gets what the rule says."""
    stopped = container("db", {"backupd.quiesce": "stop"})
    hooked = container("web", {"backupd.volume.shop_pgdata.pre": "drain", "backupd.pre": "other"})
    silent = container("cron", {})
    rules = (Rule("shop_*", enable=True, quiesce="none"),)
    found = policy(decide(volume(), stopped, hooked, silent, rules=rules))
    assert treatment(volume(), found, stopped) == Treatment("stop")
    assert treatment(volume(), found, hooked) == Treatment("none", pre=(Hook(("sh", "-c", "drain")),))
    assert treatment(volume(), found, silent) == Treatment("none")


def test_the_volumes_own_label_wins_over_those_of_containers() -> None:
    """Who labels the volume speaks for all that write to it."""
    labelled, db = volume(enable="true", quiesce="stop"), container("db", {"backupd.quiesce": "none"})
    assert treatment(labelled, policy(decide(labelled, db)), db) == Treatment("stop")


def test_what_suits_a_container_holds_where_nobody_has_said_anything() -> None:
    """A default of the container's own gives way to every label and rule, key by key."""
    suits = Treatment("stop", pre=(Hook(("save",)),))
    silent, said = container("db", {}), container("db", {"backupd.quiesce": "pause"})
    found = policy(decide(volume(enable="true"), silent))
    assert treatment(volume(), found, silent, suits) == suits
    assert treatment(volume(), found, said, suits) == Treatment("pause", pre=suits.pre)


def test_a_reader_that_is_to_be_calmed_is_told_that_it_is_not() -> None:
    """A hook that would never run is not passed over in silence."""
    reader = container("web", {"backupd.volume.shop_pgdata.pre": "sync"}, writes=False)
    found = decide(volume(enable="true"), reader)
    assert "has no effect: it mounts volume shop_pgdata read-only" in found.warnings[0]


def test_a_container_of_several_volumes_gets_the_strongest_treatment_and_each_hook_once() -> None:
    """One window holds it for all of them."""
    first, second = Hook(("first",)), Hook(("second",))
    assert merged([Treatment("pause", (first,)), Treatment("stop", (second, first)), Treatment("none")]) == (
        Treatment("stop", (first, second))
    )


def test_precedence_goes_key_by_key_from_volume_to_defaults() -> None:
    """Volume label, container label for this volume, container label, rule, defaults: each key on its own."""
    rule = Rule("shop_*", schedule="5 5 * * *", quiesce="none", exclude=("rule",))
    general = {"schedule": "4 4 * * *", "retention": "last=4", "exclude": "general"}
    addressed = {"schedule": "3 3 * * *", "retention": "last=3"}
    user = container(
        "db",
        {f"backupd.{key}": value for key, value in general.items()}
        | {f"backupd.volume.shop_pgdata.{key}": value for key, value in addressed.items()},
    )
    found = policy(decide(volume(enable="true", schedule="2 2 * * *"), user, rules=(rule,)))
    assert found == Policy("2 2 * * *", "none", ("general",), Retention(last=3))


def test_first_matching_rule_holds_and_later_ones_are_not_read() -> None:
    """The rule that stands first in the file wins as a whole."""
    rules = (Rule("other*"), Rule("shop_*", enable=True), Rule("*", enable=False, quiesce="none"))
    found = decide(volume(), rules=rules)
    assert policy(found) == DEFAULTS
    assert found.origin == 'enable=true in the rule for "shop_*"'


def test_container_label_holds_for_what_it_mounts_read_write() -> None:
    """A reader of a volume does not speak for it."""
    labels = {"backupd.enable": "true"}
    assert policy(decide(volume(), container("db", labels))) == DEFAULTS
    assert decide(volume(), container("web", labels, writes=False)).policy is None


@pytest.mark.parametrize("name", ["shop_pgdata", "pgdata"])
def test_container_may_name_the_volume_as_compose_does(name: str) -> None:
    """`backupd.volume.<name>.` takes the engine's name, or the short one of the compose file."""
    assert policy(decide(volume(), container("db", {f"backupd.volume.{name}.enable": "true"}))) == DEFAULTS


def test_label_for_a_volume_with_dots_in_its_name_is_not_taken_for_another() -> None:
    """The name in a label reaches up to the last dot."""
    labels = {"backupd.volume.shop_pgdata.old.enable": "true"}
    assert decide(volume(), container("db", labels)).policy is None


def test_label_for_a_volume_that_is_not_mounted_is_warned_about() -> None:
    """I1: a misspelt volume name in a label does not pass in silence."""
    found = decide(volume(), container("db", {"backupd.volume.pgdta.enable": "true"}))
    assert len(found.warnings) == 1
    assert 'mounts no volume "pgdta"; did you mean pgdata?' in found.warnings[0]


@pytest.mark.parametrize("where", ["volume", "container", "addressed", "rule"])
def test_one_explicit_false_wins_over_everything(where: str) -> None:
    """`enable=false` anywhere, and the origin says where."""
    says = {place: "false" if place == where else "true" for place in ("volume", "container", "addressed")}
    user = container(
        "db",
        {"backupd.enable": says["container"], "backupd.volume.shop_pgdata.enable": says["addressed"]},
    )
    found = decide(volume(enable=says["volume"]), user, rules=(Rule("*", enable=where != "rule"),))
    assert (found.policy, found.errors, found.warnings) == (None, (), ())
    assert "enable=false" in found.origin


def test_containers_that_disagree_are_an_error_naming_both() -> None:
    """I9: two containers with different schedules for one volume."""
    users = (
        container("db", {"backupd.schedule": "@daily"}),
        container("web", {"backupd.schedule": "@hourly"}),
    )
    found = decide(volume(enable="true"), *users)
    assert found.policy is None
    assert len(found.errors) == 1
    assert "container db" in found.errors[0]
    assert "container web" in found.errors[0]
    assert "label the volume: backupd.schedule" in found.errors[0]


def test_containers_that_say_the_same_in_other_words_agree() -> None:
    """I9: values are compared, not spellings."""
    users = (
        container("db", {"backupd.retention": "daily=7 last=1"}),
        container("web", {"backupd.retention": "last=1,daily=7"}),
    )
    assert policy(decide(volume(enable="true"), *users)).retention == Retention(last=1, daily=7)


def test_label_on_the_volume_settles_what_containers_disagree_on() -> None:
    """I9: what stands above both is not ambiguous."""
    users = (
        container("db", {"backupd.schedule": "@daily"}),
        container("web", {"backupd.schedule": "@hourly"}),
    )
    assert policy(decide(volume(enable="true", schedule="@weekly"), *users)).schedule == "@weekly"


def test_labels_without_enable_are_warned_about() -> None:
    """A schedule alone does not protect, and someone who wrote one thinks that it does."""
    found = decide(volume(schedule="@daily"))
    assert found.policy is None
    assert "has backupd labels but not backupd.enable=true; not protected" in found.warnings[0]


def test_unknown_label_is_warned_about_and_the_volume_goes_on() -> None:
    """I1: a misspelt label is named, with the nearest known one."""
    found = decide(volume(enable="true", scheduel="@daily"))
    assert policy(found) == DEFAULTS
    assert found.warnings == (
        "unknown label backupd.scheduel on volume shop_pgdata; did you mean backupd.schedule?",
    )


def test_labels_that_backupd_sets_itself_are_passed_over() -> None:
    """Marks of our own are neither labels of a policy nor unknown."""
    marks = {"helper": "1", "instance": "a", "run": "b", "stand_in": "c", "test": "d"}
    assert decide(volume(**marks)).warnings == ()


@pytest.mark.parametrize("key", ["drill"])
def test_label_of_a_later_version_is_warned_about(key: str) -> None:
    """What would only add safety does not stop the backup."""
    found = decide(volume(enable="true", **{key: "x"}))
    assert policy(found) == DEFAULTS
    assert "not supported by this version" in found.warnings[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pre", ""),
        ("pre", '["sync", 1]'),
        ("pre", "[sync]"),
        ("post", '[""]'),
        ("pre_timeout", "0s"),
        ("post_timeout", "soon"),
        ("pre_user", ""),
    ],
)
def test_bad_hook_is_an_error_that_names_the_label(key: str, value: str) -> None:
    """I1: and not the value, for there may be a password in a command."""
    found = decide(volume(enable="true"), container("db", {f"backupd.{key.replace('_', '-')}": value}))
    assert found.policy is None
    assert found.errors[0].startswith(f"backupd.{key.replace('_', '-')} on container db: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("enable", "ture"),
        ("quiesce", "freeze"),
        ("schedule", "61 * * * *"),
        ("schedule", "31 2 30 2 *"),
        ("schedule", "@reboot"),
        ("retention", "last=0"),
        ("retention", "last=-1"),
        ("retention", "last=0 daily=0"),
        ("retention", "lst=3"),
        ("retention", ""),
    ],
)
def test_bad_value_is_an_error_that_names_it(key: str, value: str) -> None:
    """I2, I3: the volume is in error, its name and the value are said."""
    found = decide(volume(**{"enable": "true", key: value}))
    assert found.policy is None
    assert len(found.errors) == 1
    assert f'"{value}"' in found.errors[0]
    assert "shop_pgdata" in found.errors[0]


def test_all_errors_of_a_volume_are_told_at_once() -> None:
    """Nobody should have to mend labels one at a time."""
    found = decide(volume(enable="true", schedule="x", retention="y", quiesce="z", pre=""))
    assert len(found.errors) == 4


@pytest.mark.parametrize("text", ["daily=7, last=3", "last=3  daily=7", "last=3,daily=7,"])
def test_retention_reads_spaces_and_commas(text: str) -> None:
    """Labels use spaces, the command line commas."""
    assert Retention.parse(text) == Retention(last=3, daily=7)
    assert str(Retention.parse(text)) == "last=3 daily=7"


def test_retention_of_nothing_cannot_be_made() -> None:
    """I3: not even by code."""
    for counts in ({}, {"last": 1, "daily": -1}):
        with pytest.raises(ConfigError, match="keeps nothing"):
            Retention(**counts)


def test_retention_term_given_twice_is_refused() -> None:
    """I3: two numbers for one term are a mistake."""
    with pytest.raises(ConfigError, match="daily is given twice"):
        Retention.parse("daily=1 daily=2")


@pytest.mark.parametrize("value", ["snapshot", "hold", "off"])
def test_guard_is_one_of_three(value: str) -> None:
    """On the volume, as on a container or in a rule."""
    assert policy(decide(volume(enable="true", guard=value))).guard == value
    assert decide(volume(enable="true", guard="on")).errors
