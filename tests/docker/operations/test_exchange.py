"""A volume that is in use gets the content of a snapshot, and whoever uses it runs again."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from backupd.engine.quiesce import recover
from backupd.errors import ProofFailed, RoomMissing, VolumeInUse
from backupd.operations import exchange
from backupd.operations.exchange import Exchange
from backupd.operations.unfinished import finish, notes
from backupd.progress import silent
from backupd.snapshot import Manifest
from tests.docker.conftest import MakeVolume, RunInVolume, StartContainer
from tests.docker.operations.conftest import Site

pytestmark = pytest.mark.docker

FILL = "mkdir -p a/b etc; echo 1 >etc/motd; head -c 300000 /dev/urandom >noise; ln noise a/b/c; chown 7:8 ."
CHANGE = "echo later >etc/motd; rm noise; echo only here >new"
SEE = "find . -printf '%P %y %m %U:%G %T@\\n' | sort; find . -type f -exec sha256sum {} + | sort"
WRITER = "trap 'echo bye >>/log; exit 0' TERM; while :; do cat /volume/etc/motd >/seen; sleep 0.1; done"


class Scene:
    """A volume with a container that uses it, a snapshot, and what the volume held at both times."""

    def __init__(self, site: Site, volume: str, run: RunInVolume, start: StartContainer) -> None:
        self.site, self.volume, self._run = site, volume, run
        run(volume, FILL)
        self.saved = self.see()
        self.snapshot = site.backup(volume)
        run(volume, CHANGE)
        self.changed = untimed(self.see())
        self.name = f"backupd-test-user-{uuid.uuid4().hex[:8]}"
        self.user = start(WRITER, volume, name=self.name)
        self.idle = start("sleep 1", volume, start=False)

    def see(self) -> str:
        """Everything in the volume, with its metadata."""
        return self._run(self.volume, SEE)

    def state(self, container: str) -> str:
        """What the engine says of it."""
        return str(self.site.context.engine.api.inspect_container(container)["State"]["Status"])

    def exchange(self) -> str | None:
        """Replace the content; the snapshot of the old."""
        work = Exchange(self.site.context, self.snapshot, self.volume, safe=True)
        return work.execute(progress=silent, cancel=threading.Event())

    def find(self, snapshot: str) -> Manifest:
        """A snapshot of the volume."""
        return self.site.context.repository.find(self.volume, snapshot)


def untimed(seen: str) -> str:
    """Without the time of the volume's own directory, in which something was made and removed again."""
    root, rest = seen.split("\n", 1)
    return root.rpartition(" ")[0] + "\n" + rest


@pytest.fixture
def scene(
    site: Site, make_volume: MakeVolume, run_in_volume: RunInVolume, start_container: StartContainer
) -> Scene:
    """The volume has changed since the snapshot, and a container uses it."""
    return Scene(site, make_volume(), run_in_volume, start_container)


def test_the_content_is_exchanged_and_the_user_runs_again(scene: Scene) -> None:
    """Stopped in an orderly way, started again; who was not running stays so; what was there is saved."""
    saved = scene.exchange()
    assert scene.see() == scene.saved
    assert scene.state(scene.user) == "running"
    assert scene.state(scene.idle) == "created"
    assert saved is not None
    assert notes(scene.site.context.state_dir) == ()
    assert scene.site.context.journal.changes == ()
    scene.site.restore(scene.find(saved), replace=True)
    assert untimed(scene.see()) == scene.changed


def test_content_that_is_not_the_snapshot_s_never_gets_in(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, run_in_volume: RunInVolume
) -> None:
    """A byte on the disk is another than was written: the proof names the file, and the old content stays."""
    real = exchange.prove

    def spoilt(*arguments: object, below: str, **named: object) -> None:
        run_in_volume(scene.volume, f"printf x | dd of={below}/noise bs=1 seek=1000 conv=notrunc status=none")
        real(*arguments, below=below, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(exchange, "prove", spoilt)
    with pytest.raises(ProofFailed, match=r"a/b/c|noise"):
        scene.exchange()
    assert untimed(scene.see()) == scene.changed
    assert scene.state(scene.user) == "running"
    assert notes(scene.site.context.state_dir) == ()


def test_too_little_room_is_found_out_first(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """T3: both contents must fit beside each other; the error says what does without."""
    monkeypatch.setattr(exchange, "SPARE", 1e12)
    with pytest.raises(RoomMissing) as caught:
        scene.exchange()
    assert "--in-place-wipe" in str(caught.value.hint)
    assert untimed(scene.see()) == scene.changed
    assert scene.state(scene.user) == "running"


@pytest.mark.parametrize(
    ("step", "told", "done"),
    [
        ("before the new content", "had only its containers left to start", False),
        ("before the proof", "is undone: the volume holds what it held before", False),
        ("before the swap", "is finished", True),
        ("after the swap", "had only its containers left to start", True),
        ("before the start", None, True),
    ],
)
def test_a_restore_that_was_killed_is_brought_to_an_end(
    scene: Scene, step: str, told: str | None, done: bool
) -> None:
    """T2: whole, one or the other; what it held is a snapshot; who ran runs again."""
    site = scene.site
    context = site.context
    child = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "tests.docker.operations.exchange_child",
                f"unix://{context.engine.socket}",
            ),
            *(str(context.state_dir), str(site.directory / "repository"), scene.volume),
            *(scene.snapshot.snapshot, context.image.reference, context.image.version, step),
        ],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert child.returncode == -9, child.stderr
    assert scene.state(scene.user) != "running"
    said = list(
        finish(
            notes(context.state_dir),
            context.engine,
            context.journal,
            context.image,
            instance=context.instance,
            state_dir=context.state_dir,
        )
    )
    recover(context.engine, context.journal)
    assert scene.state(scene.user) == "running"
    assert untimed(scene.see()) == (untimed(scene.saved) if done else scene.changed)
    assert [text.endswith(told or "") for text in said] == ([True] if told else [])
    assert notes(context.state_dir) == ()
    assert context.repository.find(scene.volume).snapshot > scene.snapshot.snapshot


def test_a_container_that_is_started_meanwhile_keeps_the_old_content(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody starts it by hand: nothing is exchanged under its feet."""
    real = exchange.prove

    def start(*arguments: object, **named: object) -> None:
        real(*arguments, **named)  # type: ignore[arg-type]
        scene.site.context.engine.api.start(scene.user)

    monkeypatch.setattr(exchange, "prove", start)
    with pytest.raises(VolumeInUse, match=scene.name):
        scene.exchange()
    assert untimed(scene.see()) == scene.changed
    assert scene.state(scene.user) == "running"
