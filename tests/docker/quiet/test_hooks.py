"""Hooks run in their containers and nowhere else, and come to an end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from backupd.engine.journal import Journal
from backupd.engine.quiesce import Patient
from backupd.errors import Interrupted, QuiesceFailed
from backupd.treatment import Hook, Treatment, command
from backupd.volume import Container
from tests.docker.quiet.calm import quiet, quiet_of
from tests.docker.quiet.conftest import Stage

pytestmark = pytest.mark.docker

DURATION = "31337"
"""Seconds that a hook hangs for; so its processes are known among others."""


def hangs(stage: Stage, container: Container) -> bool:
    """Whether a process of a hanging hook is left in the container."""
    named = f"tr '\\0' ' ' <$p/cmdline | grep -q '^sleep {DURATION}'"
    find = f"for p in /proc/[0-9]*; do {named} && exit 0; done; exit 1"
    return stage.succeeds(container.id, "sh", "-c", find)


def shell(text: str, seconds: float = 60) -> tuple[Hook, ...]:
    """A hook as a label gives it."""
    return (Hook(command(text), timeout_seconds=seconds),)


def test_pre_runs_before_the_pause_and_post_after_it(stage: Stage, journal: Journal) -> None:
    """Neither could run in a container that is paused; what is read is what the application says it is."""
    container = stage.start()
    treatment = Treatment("pause", shell("echo pre >>/tmp/log"), shell("echo post >>/tmp/log"))
    with quiet(stage.engine, journal, [container], treatment) as still:
        assert stage.status(container) == "paused"
    assert stage.succeeds(container.id, "sh", "-c", '[ "$(cat /tmp/log)" = "$(printf \'pre\\npost\')" ]')
    report = still.end()
    assert report.containers[0].consistency == "hooks"
    assert report.degraded == ()
    assert journal.changes == ()


def test_hook_before_a_stop_runs_first_and_the_other_after_the_start(stage: Stage, journal: Journal) -> None:
    """The class is that of the stop, which guarantees more."""
    container = stage.start()
    treatment = Treatment("stop", shell("touch /tmp/pre"), shell("test -e /tmp/pre && touch /tmp/post"))
    with quiet(stage.engine, journal, [container], treatment) as still:
        assert stage.status(container) == "exited"
    assert stage.has(container, "/tmp/post")
    assert still.end().containers[0].consistency == "clean-stop"


def test_exec_form_reaches_no_shell_and_the_user_is_the_one_asked_for(stage: Stage, journal: Journal) -> None:
    """I4: words stay words, `sh -c` is the container's own, nothing is run on the host."""
    container = stage.start()
    bait = Path("/tmp") / f"{stage.project}-bait"
    odd = "/tmp/$(id); `id` && exit 1"
    pre = (
        Hook(("touch", odd)),
        Hook(command(f"touch {bait} && echo $(id -u) >/tmp/who"), user="12:34"),
    )
    with quiet(stage.engine, journal, [container], Treatment("none", pre)):
        pass
    assert not bait.exists()
    assert stage.has(container, odd)
    assert stage.has(container, str(bait))
    assert stage.succeeds(container.id, "grep", "-qx", "12", "/tmp/who")


def test_failing_hook_ends_it_and_post_hooks_run_for_all_that_were_begun(
    stage: Stage, journal: Journal
) -> None:
    """E6: the first's, the failed one's, not that of one never reached; the application runs."""
    containers = [
        stage.serve(name, depends_on=before) for name, before in (("a", "b"), ("b", "c"), ("c", ""))
    ]
    post = shell("touch /tmp/post")
    failing = shell("echo the table is locked >&2; exit 7")
    patients = [
        Patient(each, Treatment("pause", failing if number == 1 else shell("true"), post))
        for number, each in enumerate(containers)
    ]
    with pytest.raises(QuiesceFailed) as caught, quiet_of(stage.engine, journal, lambda: patients):
        pytest.fail("a hook has failed")
    assert caught.value.message == (
        f"pre hook in container {containers[1].name} ended with exit code 7: the table is locked"
    )
    assert [stage.has(each, "/tmp/post") for each in containers] == [True, True, False]
    assert [stage.status(each) for each in containers] == ["running"] * 3
    assert journal.changes == ()


def test_hook_that_cannot_be_started_is_a_failure(stage: Stage, journal: Journal) -> None:
    """No such command, or no such user: named, with nothing left behind."""
    container = stage.start()
    with (
        pytest.raises(QuiesceFailed, match=f"pre hook in container {container.name}"),
        quiet(stage.engine, journal, [container], Treatment("pause", (Hook(("no-such-command",)),))),
    ):
        pytest.fail("there is no such command")
    assert stage.status(container) == "running"
    assert journal.changes == ()


def test_failing_post_hook_is_told_and_the_others_run(stage: Stage, journal: Journal) -> None:
    """E7: what was read is good, the run degraded."""
    first, second = stage.start(), stage.start()
    treatment = Treatment(
        "pause", post=shell("test -e /tmp/fine && touch /tmp/post || { echo no >&2; false; }")
    )
    with quiet(stage.engine, journal, [first, second], treatment) as still:
        stage.engine.api.unpause(second.id)
        assert stage.succeeds(second.id, "touch", "/tmp/fine")
        stage.engine.api.pause(second.id)
    report = still.end()
    assert report.degraded == (f"post hook in container {first.name} ended with exit code 1: no",)
    assert stage.has(second, "/tmp/post")
    assert journal.changes == ()


def test_hanging_hook_is_killed_with_its_children(stage: Stage, journal: Journal) -> None:
    """E8: after its time; the container goes on, its post hook runs."""
    container = stage.start()
    treatment = Treatment(
        "pause",
        shell(f"echo waiting; sleep {DURATION} & sleep {DURATION}; true", 1),
        shell("touch /tmp/post"),
    )
    with pytest.raises(QuiesceFailed) as caught, quiet(stage.engine, journal, [container], treatment):
        pytest.fail("the hook hangs")
    assert caught.value.message == (
        f"pre hook in container {container.name} was not over after 1 s and was killed: waiting"
    )
    assert not hangs(stage, container)
    assert stage.status(container) == "running"
    assert stage.has(container, "/tmp/post")


def test_hanging_post_hook_is_killed_too(stage: Stage, journal: Journal) -> None:
    """E7, E8: told as one that failed."""
    container = stage.start()
    with quiet(
        stage.engine, journal, [container], Treatment("pause", post=shell(f"exec sleep {DURATION}", 1))
    ) as still:
        pass
    assert still.end().degraded == (
        f"post hook in container {container.name} was not over after 1 s and was killed",
    )
    assert not hangs(stage, container)


def test_child_that_a_hook_leaves_behind_does_not_keep_it(stage: Stage, journal: Journal) -> None:
    """Such a child may hold the output for ever; the hook itself has ended well."""
    container = stage.start()
    with quiet(stage.engine, journal, [container], Treatment("pause", shell(f"sleep {DURATION} &"))) as still:
        assert stage.status(container) == "paused"
    assert still.end().containers[0].consistency == "hooks"
    assert hangs(stage, container)


def test_much_output_does_not_block_a_hook(stage: Stage, journal: Journal) -> None:
    """It is read while the hook runs; the last lines are told if it fails."""
    container = stage.start()
    noisy = shell("i=0; while [ $i -lt 100000 ]; do echo line $i; i=$((i+1)); done; exit 1")
    with (
        pytest.raises(QuiesceFailed, match=r"line 99998; line 99999$"),
        quiet(stage.engine, journal, [container], Treatment("pause", noisy)),
    ):
        pytest.fail("it ends with 1")


def test_cancelled_while_a_hook_runs(stage: Stage, journal: Journal) -> None:
    """E3: the hook is killed, the post hook runs, nothing is left."""
    container, cancel = stage.start(), threading.Event()
    treatment = Treatment(
        "pause", shell(f"touch /tmp/begun; exec sleep {DURATION}"), shell("touch /tmp/post")
    )
    timer = threading.Thread(target=lambda: _when_begun(stage, container, cancel))
    timer.start()
    with (
        pytest.raises(Interrupted),
        quiet(stage.engine, journal, [container], treatment, cancel=cancel),
    ):
        pytest.fail("it was cancelled")
    timer.join(60)
    assert not hangs(stage, container)
    assert stage.has(container, "/tmp/post")
    assert journal.changes == ()


def _when_begun(stage: Stage, container: Container, cancel: threading.Event) -> None:
    while not stage.has(container, "/tmp/begun"):
        pass
    cancel.set()
