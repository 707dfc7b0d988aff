"""Containers are stopped as they want to be, in order, and come back as they were."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from backupd.engine.journal import Journal
from backupd.engine.quiesce import Patient
from backupd.engine.quiet.patience import Patience
from backupd.errors import QuiesceFailed
from backupd.treatment import Hook, Treatment
from backupd.volume import Container
from tests.docker.conftest import MakeVolume
from tests.docker.quiet.calm import known, quiet, quiet_of, wait_for
from tests.docker.quiet.conftest import OBEDIENT, STUBBORN, Stage

pytestmark = pytest.mark.docker

STOP, PAUSE, NONE = Treatment("stop"), Treatment("pause"), Treatment("none")


def test_stopped_container_is_started_again(stage: Stage, journal: Journal) -> None:
    """It ends well inside, runs afterwards, and what is read meanwhile is a clean stop."""
    container = stage.start()
    before = stage.inspect(container)["StartedAt"]
    with quiet(stage.engine, journal, [container], STOP) as still:
        assert stage.status(container) == "exited"
        assert {change.action for change in journal.changes} == {"claim", "stop"}
    [calmed] = still.end().containers
    assert (calmed.consistency, calmed.exit_code, calmed.warnings) == ("clean-stop", 0, ())
    assert stage.status(container) == "running"
    assert stage.inspect(container)["StartedAt"] != before
    assert journal.changes == ()


def test_stop_that_ended_in_a_kill_is_recorded(stage: Stage, journal: Journal) -> None:
    """E9: no clean shutdown, and it is said."""
    container = stage.start(STUBBORN, stop_timeout=1)
    with quiet(stage.engine, journal, [container], STOP) as still:
        assert stage.status(container) == "exited"
    [calmed] = still.end().containers
    assert (calmed.consistency, calmed.exit_code) == ("crash-consistent", 137)
    assert calmed.warnings == (f"{container.name} did not stop in 1 s and was killed: no clean shutdown",)
    assert stage.status(container) == "running"


def test_container_that_fails_when_it_is_stopped_is_no_clean_stop(stage: Stage, journal: Journal) -> None:
    """Who ends with an error may have left anything behind."""
    container = stage.start(OBEDIENT.replace("exit 0", "exit 3"))
    with quiet(stage.engine, journal, [container], STOP) as still:
        pass
    [calmed] = still.end().containers
    assert calmed.consistency == "crash-consistent"
    assert "exit code 3" in calmed.warnings[0]


def test_containers_own_signal_and_time_are_used(stage: Stage, journal: Journal) -> None:
    """An image that stops on another signal, and slowly, is not killed."""
    script = OBEDIENT.replace("'exit 0' TERM", "'sleep 2; exit 0' USR1")
    container = stage.start(script, stop_signal="SIGUSR1", stop_timeout=120)
    with quiet(stage.engine, journal, [container], STOP) as still:
        pass
    [calmed] = still.end().containers
    assert (calmed.consistency, calmed.exit_code) == ("clean-stop", 0)


def test_who_did_not_run_is_not_started(stage: Stage, journal: Journal) -> None:
    """E4: stopped, paused and never started containers stay so; a kill in the past is no clean stop."""
    ended, killed, paused = stage.start("exit 0"), stage.start(STUBBORN), stage.start()
    never = stage.start(run=False)
    stage.engine.api.wait(ended.id)
    stage.engine.api.kill(killed.id)
    stage.engine.api.wait(killed.id)
    stage.engine.api.pause(paused.id)
    containers = [known(stage.engine, each.id) for each in (ended, killed, paused, never)]
    with quiet(stage.engine, journal, containers, STOP) as still:
        assert {change.action for change in journal.changes} == {"claim"}
    assert [stage.status(each) for each in containers] == ["exited", "exited", "paused", "created"]
    assert [each.consistency for each in still.end().containers] == [
        "clean-stop",
        "crash-consistent",
        "crash-consistent",
        "clean-stop",
    ]


def test_compose_dependents_stop_first_and_start_last(stage: Stage, journal: Journal) -> None:
    """As depends_on asks for; who has a health check is healthy before its dependents start."""
    healthy = {
        "test": ["CMD-SHELL", "test -e /tmp/ready || { touch /tmp/ready; exit 1; }"],
        "interval": 1_000_000_000,
        "retries": 100,
    }
    script = OBEDIENT.replace("touch", "rm -f /tmp/ready; touch")
    db = stage.serve("db", script, healthcheck=healthy)
    app = stage.serve("app", depends_on="db:service_healthy:true,cache:service_started:false")
    web = stage.serve("web", depends_on="app:service_started:false")
    wait_for(lambda: stage.inspect(db)["Health"]["Status"] == "healthy")
    with quiet(stage.engine, journal, [db, web, app], STOP):
        stopped = [stage.inspect(each)["FinishedAt"] for each in (web, app, db)]
    assert stopped == sorted(stopped)
    started = [stage.inspect(each)["StartedAt"] for each in (db, app, web)]
    assert started == sorted(started)
    [first_well, *_] = [each for each in stage.inspect(db)["Health"]["Log"] if each["ExitCode"] == 0]
    assert first_well["Start"][:19] <= started[1].replace("Z", "+00:00")[:19]


def test_each_container_is_treated_in_its_own_way(stage: Stage, journal: Journal) -> None:
    """One paused, one stopped, one with hooks, one let be."""
    paused, stopped, hooked, free = (stage.start() for _ in range(4))
    treatments = {
        paused.id: PAUSE,
        stopped.id: STOP,
        hooked.id: Treatment("none", (Hook(("touch", "/tmp/pre")),), (Hook(("touch", "/tmp/post")),)),
        free.id: NONE,
    }
    patients = [Patient(each, treatments[each.id]) for each in (free, hooked, stopped, paused)]
    with quiet_of(stage.engine, journal, lambda: patients) as still:
        states = [stage.status(each) for each in (paused, stopped, hooked, free)]
        assert states == ["paused", "exited", "running", "running"]
        assert stage.has(hooked, "/tmp/pre")
        assert not stage.has(hooked, "/tmp/post")
    assert stage.has(hooked, "/tmp/post")
    assert [stage.status(each) for each in (paused, stopped, hooked, free)] == ["running"] * 4
    found = {each.container.id: each.consistency for each in still.end().containers}
    assert found == {
        paused.id: "crash-consistent",
        stopped.id: "clean-stop",
        hooked.id: "hooks",
        free.id: "fuzzy",
    }


def test_a_volume_is_worth_as_much_as_its_weakest_writer(
    stage: Stage, journal: Journal, make_volume: MakeVolume
) -> None:
    """I7: every writer counts, labelled or not; a window of several volumes tells them apart."""
    shared, own = make_volume(), make_volume()
    binds = {"binds": [f"{shared}:/a", f"{own}:/b"]}
    first, second = stage.start(host=binds), stage.start(volume=shared)
    patients = [Patient(first, STOP), Patient(second, PAUSE)]
    with quiet_of(stage.engine, journal, lambda: patients) as still:
        pass
    report = still.end()
    assert report.consistency(own) == "clean-stop"
    assert report.consistency(shared) == "crash-consistent"
    assert report.consistency("another") == "clean-stop"
    assert report.quiesced(own).containers == (first.name,)
    assert set(report.quiesced(shared).containers) == {first.name, second.name}
    assert report.still(shared)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"host": {"auto_remove": True}}, "--rm"),
        ({"labels": {"com.docker.swarm.task.id": "x"}}, "swarm"),
        ({"stop_timeout": 700}, "may take 700 s to stop"),
    ],
)
def test_stop_that_would_do_harm_is_refused(
    stage: Stage, journal: Journal, how: dict[str, object], reason: str
) -> None:
    """I5: with the reason, and before any other container is touched."""
    other, refused = stage.start(), stage.start(**how)  # type: ignore[arg-type]
    before = stage.inspect(other)["StartedAt"]
    with (
        pytest.raises(QuiesceFailed, match=reason) as caught,
        quiet(stage.engine, journal, [other, refused], STOP),
    ):
        pytest.fail("it was not refused")
    assert refused.name in caught.value.message
    assert "pause" in str(caught.value.hint)
    assert stage.status(refused) == "running"
    assert stage.inspect(other)["StartedAt"] == before
    assert journal.changes == ()


def test_paused_container_with_a_hook_is_refused(stage: Stage, journal: Journal) -> None:
    """I5: nothing can be executed in it, and it is not ours to wake."""
    container = stage.start()
    stage.engine.api.pause(container.id)
    hooked = Treatment("pause", pre=(Hook(("true",)),))
    with (
        pytest.raises(QuiesceFailed, match=r"is paused, and no hook can run in it"),
        quiet(stage.engine, journal, [known(stage.engine, container.id)], hooked),
    ):
        pytest.fail("it was not refused")
    assert stage.status(container) == "paused"


def test_stopping_the_owner_of_a_network_that_others_use_is_refused(stage: Stage, journal: Journal) -> None:
    """The one that goes on would be cut off for good; if both are stopped, the owner is started first."""
    owner = stage.start()
    guest = stage.start(host={"network_mode": f"container:{owner.id}"})
    with (
        pytest.raises(QuiesceFailed, match=f"{guest.name} uses the network of {owner.name}"),
        quiet(stage.engine, journal, [owner], STOP),
    ):
        pytest.fail("it was not refused")
    with quiet(stage.engine, journal, [owner, guest], STOP):
        assert [stage.status(each) for each in (owner, guest)] == ["exited", "exited"]
    assert [stage.status(each) for each in (owner, guest)] == ["running", "running"]


@pytest.mark.parametrize("treatment", [STOP, PAUSE])
def test_who_is_brought_back_by_somebody_else_makes_it_fuzzy(
    stage: Stage, journal: Journal, treatment: Treatment
) -> None:
    """The truth about a container that ran while its volume was read."""
    container = stage.start()
    with quiet(stage.engine, journal, [container], treatment) as still:
        if treatment is STOP:
            stage.engine.api.start(container.id)
        else:
            stage.engine.api.unpause(container.id)
    [calmed] = still.end().containers
    assert calmed.consistency == "fuzzy"
    assert "brought back by somebody else" in calmed.warnings[0]
    assert stage.status(container) == "running"


@pytest.mark.parametrize("treatment", [STOP, PAUSE])
def test_who_starts_between_the_look_and_the_quiet_is_calmed_too(
    stage: Stage, journal: Journal, treatment: Treatment
) -> None:
    """Looked for again once all are quiet, until nobody new runs."""
    first, late = stage.start(), stage.start(run=False)
    looks = itertools.count(1)

    def look() -> Sequence[Patient]:
        if next(looks) == 2:
            stage.engine.api.start(late.id)
        return [Patient(known(stage.engine, each.id), treatment) for each in (first, late)]

    with quiet_of(stage.engine, journal, look):
        expected = "exited" if treatment is STOP else "paused"
        assert [stage.status(each) for each in (first, late)] == [expected] * 2
    assert [stage.status(each) for each in (first, late)] == ["running"] * 2


def test_who_starts_while_it_is_quiet_makes_it_fuzzy(
    stage: Stage, journal: Journal, make_volume: MakeVolume
) -> None:
    """Found by a last look, and named."""
    volume = make_volume()
    container, late = stage.start(volume=volume), stage.start(volume=volume, run=False)

    def look() -> Sequence[Patient]:
        return [Patient(known(stage.engine, each.id), PAUSE) for each in (container, late)]

    with quiet_of(stage.engine, journal, look) as still:
        stage.engine.api.start(late.id)
    report = still.end()
    assert report.consistency(volume) == "fuzzy"
    assert not report.still(volume)
    assert report.warnings(volume) == (f"{late.name} was started while the volume was read",)
    assert stage.status(late) == "running"


def test_container_that_does_not_start_again_is_named(
    stage: Stage, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to type, the others come back, and the journal keeps it."""
    other, broken = stage.start(), stage.start()
    start = stage.engine.api.start
    monkeypatch.setattr("backupd.engine.quiesce.Patience", _impatient)
    with pytest.raises(QuiesceFailed) as caught, quiet(stage.engine, journal, [other, broken], STOP):
        monkeypatch.setattr(stage.engine.api, "start", lambda c: start("no-such" if c == broken.id else c))
    assert caught.value.hint == f"start it by hand: docker start {broken.name}"
    assert stage.status(other) == "running"
    assert [change.container for change in journal.changes if change.action == "stop"] == [broken.id]


def _impatient(**_: object) -> Patience:
    return Patience(refused_seconds=0.0)


def test_keep_leaves_stopped_what_is_stopped(stage: Stage, journal: Journal) -> None:
    """For who stops containers in order to remove them: nothing of it is undone, or kept in mind."""
    container: Container = stage.start()
    with quiet(stage.engine, journal, [container], STOP) as still:
        still.keep()
    assert stage.status(container) == "exited"
    assert journal.changes == ()
