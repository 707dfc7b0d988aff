from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from backupd.health import Health, Problem, assess
from backupd.notify import telling
from backupd.notify.notice import Notice
from backupd.notify.telling import Telling
from backupd.record import Record
from backupd.runs import Run
from tests.unit.records import NOON, manifest, run, watched

HOUR = timedelta(hours=1)


class Story:
    """What happens to one volume, and what people hear of it."""

    def __init__(self) -> None:
        self.telling = Telling("db1", timedelta(hours=24))
        self.record = Record("shop").seen(NOON - timedelta(days=1))
        self.heard: list[Notice] = []

    def run(self, outcome: Any, at: datetime, **other: Any) -> list[str]:
        """A run ends; the kinds of notices."""
        ended: Run = run(outcome, started=at, **other)
        self.record = self.record.ended(ended)
        self.telling, notices = self.telling.ended(ended, self.record, at + timedelta(minutes=1))
        return self._hear(notices)

    def look(self, at: datetime, *problems: Problem, busy: tuple[str, ...] = ()) -> list[str]:
        """Health is assessed, with these problems or as the record has it; the kinds of notices."""
        health = assess([watched()], {"shop": self.record}, at)
        health = Health(1, problems, {}) if problems else health
        self.telling, notices = self.telling.looked(health, ["shop"], at, busy=busy)
        return self._hear(notices)

    def restart(self) -> None:
        """Only what is written down is known afterwards."""
        told = telling.decode(telling.encode(self.telling.told))
        self.telling = Telling("db1", timedelta(hours=24), told)

    def _hear(self, notices: list[Notice]) -> list[str]:
        self.heard += notices
        return [notice.kind for notice in notices]


@pytest.fixture
def story() -> Story:
    """A volume that was never saved yet."""
    return Story()


def test_a_success_is_not_told(story: Story) -> None:
    """People stop reading what always comes."""
    assert story.run("ok", NOON) == []
    assert story.run("fuzzy", NOON + HOUR) == []
    assert story.look(NOON + HOUR) == []


def test_a_failure_is_told_once_and_its_end_is_told(story: Story) -> None:
    """The first of a row, and the success after it."""
    assert story.run("failed", NOON) == ["failed"]
    assert story.run("failed", NOON + HOUR) == []
    assert story.run("ok", NOON + 2 * HOUR) == ["recovered"]
    assert story.run("ok", NOON + 3 * HOUR) == []
    assert story.run("failed", NOON + 4 * HOUR) == ["failed"]


def test_a_notice_says_which_volume_since_when_why_and_what_to_do(story: Story) -> None:
    """All that a person needs who reads it on a telephone."""
    story.run("ok", NOON - timedelta(days=3))
    story.run("failed", NOON)
    [notice] = story.heard
    assert notice.title == "backupd on db1: backup of shop failed"
    assert notice.body == (
        "The backup of volume shop failed: the storage is full; the last snapshot is 3 days old.\n"
        "Since: 2026-11-25 12:01 UTC\n"
        "What to do: make room"
    )
    assert notice.as_json() == {
        "kind": "failed",
        "host": "db1",
        "volume": "shop",
        "at": "2026-11-25T12:01:00Z",
        "since": "2026-11-25T12:01:00Z",
        "title": notice.title,
        "text": "The backup of volume shop failed: the storage is full; the last snapshot is 3 days old.",
        "hint": "make room",
    }


def test_what_lasts_is_told_again_after_a_day(story: Story) -> None:
    """Not at every run, and not never."""
    kinds = [story.run("failed", NOON + hour * HOUR) for hour in range(49)]
    assert [hour for hour, each in enumerate(kinds) if each] == [0, 24, 48]


def test_a_restart_of_the_daemon_tells_nothing_twice(story: Story) -> None:
    """What was told is in the ledger; the recovery is still told."""
    story.run("failed", NOON)
    story.restart()
    assert story.run("failed", NOON + HOUR) == []
    story.restart()
    assert story.run("ok", NOON + 2 * HOUR) == ["recovered"]


def test_being_overdue_is_told_though_a_failure_was_and_both_end_with_one_success(story: Story) -> None:
    """S5: it is worse than a run that failed."""
    assert story.run("failed", NOON) == ["failed"]
    assert story.look(NOON + 3 * HOUR) == ["overdue"]
    assert story.look(NOON + 4 * HOUR) == []
    assert story.run("failed", NOON + 5 * HOUR) == []
    assert story.run("ok", NOON + 6 * HOUR) == ["recovered"]
    assert story.heard[-1].since == NOON + timedelta(minutes=1)


def test_what_is_overdue_and_at_work_is_not_told_yet(story: Story) -> None:
    """A daemon that was away catches up what it missed: that is no news."""
    late = NOON + timedelta(days=3)
    assert story.look(late, busy=("shop",)) == []
    assert story.look(late + HOUR) == ["overdue"]
    assert story.look(late + 2 * HOUR, busy=("shop",)) == []
    assert story.run("ok", late + 3 * HOUR) == ["recovered"]


def test_a_success_of_another_process_ends_what_was_told(story: Story) -> None:
    """It is in the ledger, and health is well again, though no run was heard of."""
    late = NOON + timedelta(days=3)
    assert story.look(late) == ["overdue"]
    story.record = story.record.ended(run("ok", started=late))
    assert story.look(late + HOUR) == ["recovered"]


def test_trouble_beside_a_snapshot_is_told(story: Story) -> None:
    """E7: the snapshot is kept, and somebody should look; a success without trouble ends it."""
    assert story.run("degraded", NOON) == ["degraded"]
    assert story.run("degraded", NOON + HOUR) == []
    assert story.run("ok", NOON + 2 * HOUR) == ["recovered"]


@pytest.mark.parametrize("outcome", ["skipped", "interrupted"])
def test_nobody_hears_of_what_is_nobodys_fault(story: Story, outcome: str) -> None:
    """And it ends nothing."""
    assert story.run(outcome, NOON) == []
    story.run("failed", NOON + HOUR)
    assert story.run(outcome, NOON + 2 * HOUR) == []


def test_a_collapse_is_told_once_and_ends_with_a_run_that_has_none(story: Story) -> None:
    """I11: with both ways out."""
    lost = manifest(collapsed_from="20261124T020000Z-7f3a")
    assert story.run("ok", NOON, manifest=lost) == ["collapsed"]
    assert story.run("ok", NOON + HOUR, manifest=lost) == []
    hint = story.heard[0].hint
    assert hint
    assert "backupd restore shop --snapshot 20261124T020000Z-7f3a --replace" in hint
    assert "backupd forget shop --accept-collapse" in hint
    assert story.run("ok", NOON + 2 * HOUR) == ["recovered"]


def test_what_is_wrong_with_the_whole_is_told_and_its_end(story: Story) -> None:
    """S1: the clock is no volume's."""
    clock = Problem("clock", None, "the clock cannot be believed", "set it")
    story.record = story.record.ended(run("ok", started=NOON))
    assert story.look(NOON, clock) == ["clock"]
    assert story.look(NOON + HOUR, clock) == []
    assert story.look(NOON + 2 * HOUR) == ["recovered"]
    assert "all is well again" in story.heard[-1].title


def test_a_success_does_not_end_what_is_wrong_with_a_label(story: Story) -> None:
    """A volume may be saved by hand while no schedule holds for it."""
    story.record = story.record.ended(run("ok", started=NOON))
    problem = Problem("misconfigured", "shop", "not backed up: no schedule", "correct it")
    assert story.look(NOON, problem) == ["misconfigured"]
    assert story.run("ok", NOON + HOUR) == []
    assert story.look(NOON + 2 * HOUR) == ["recovered"]


def test_a_volume_that_is_gone_is_forgotten_in_silence(story: Story) -> None:
    """To say that it is backed up again would be a lie."""
    story.run("failed", NOON)
    nothing = Health(0, (), {})
    story.telling, notices = story.telling.looked(nothing, [], NOON + HOUR)
    assert notices == []
    assert story.telling.told == {}


def test_a_clock_that_goes_back_does_not_keep_people_from_hearing(story: Story) -> None:
    """S1: what was told in the future counts as long ago; once."""
    story.run("failed", NOON + timedelta(days=400))
    assert story.run("failed", NOON) == ["failed"]
    assert story.run("failed", NOON + HOUR) == []


def test_what_was_written_down_by_another_version_counts_as_not_told() -> None:
    """It is told once too often rather than never."""
    assert telling.decode({"shop": "strange", "other": "[1, 2]", "third": '["x", "y", []]'}) == {}


def test_damage_is_told_until_a_verification_finds_none(story: Story) -> None:
    """R4: a backup that cannot be restored is none; files are named by `backupd verify`."""
    damage = [f"finding {number}" for number in range(12)]
    story.record = story.record.ended(run("ok", started=NOON))
    for at, found, kinds in (
        (NOON, damage, ["damaged"]),
        (NOON + HOUR, damage, []),
        (NOON + 2 * HOUR, [], ["recovered"]),
        (NOON + 3 * HOUR, [], []),
    ):
        story.telling, notices = story.telling.verified(found, at)
        assert story._hear(notices) == kinds
        assert story.look(at) == []
    assert "- finding 9\n- and 2 more" in story.heard[0].text
    assert "backupd verify" in str(story.heard[0].hint)
