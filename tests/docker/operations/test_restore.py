"""Snapshots put back into real volumes, and every reason not to."""

from __future__ import annotations

import re
import uuid

import pytest

from backupd.errors import EngineError, ObjectDamaged, VolumeInUse, VolumeNotFound
from backupd.operations.restore import Consent, plan
from backupd.volume import Volume
from tests.docker.conftest import MakeVolume, RunInVolume, StartContainer
from tests.docker.operations.conftest import Site

pytestmark = pytest.mark.docker

INSIDE = (
    "find . -mindepth 1 -printf '%p %y %m %U %G %s %T@\\n' | sort; find . -type f -exec sha256sum {} + | sort"
)
LIST = "find . -printf '%p %y %m %U %G %s %T@\\n' | sort; find . -type f -exec sha256sum {} + | sort"


@pytest.fixture
def filled(make_volume: MakeVolume, run_in_volume: RunInVolume) -> str:
    """A volume with a few files in it."""
    volume = make_volume(labels={"com.docker.compose.project": "shop", "com.docker.compose.volume": "data"})
    run_in_volume(
        volume,
        "mkdir d; seq 1000 >d/numbers; head -c 2000000 /dev/urandom >noise; chown 70:70 d; chmod 700 d",
    )
    return volume


def test_a_deleted_volume_comes_back_with_its_options_and_labels(
    site: Site, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """A new volume with the original driver, options, labels and files, so that compose accepts it."""
    volume = make_volume(
        labels={"com.docker.compose.project": "shop"}, type="tmpfs", device="tmpfs", o="size=50m,uid=70"
    )
    snapshot = site.backup(volume)
    described = site.context.engine.volume(volume)
    site.context.engine.remove_volume(volume)
    result = site.restore(snapshot)
    assert result.created
    assert site.context.engine.volume(volume) == described
    assert described.options["o"] == "size=50m,uid=70"


def test_files_come_back_as_they_were(site: Site, filled: str, run_in_volume: RunInVolume) -> None:
    """Content, owners, modes and nanoseconds, as find and sha256sum see them."""
    before = run_in_volume(filled, LIST)
    snapshot = site.backup(filled)
    site.context.engine.remove_volume(filled)
    site.restore(snapshot)
    assert run_in_volume(filled, LIST) == before


def test_an_empty_volume_is_filled(
    site: Site, filled: str, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """Into a volume that exists and holds nothing, which keeps its own labels."""
    target = make_volume()
    result = site.restore(site.backup(filled), to=target)
    assert not result.created
    assert run_in_volume(target, LIST) == run_in_volume(filled, LIST)


def test_a_volume_that_holds_files_is_refused(site: Site, filled: str, run_in_volume: RunInVolume) -> None:
    """I18: without --replace nothing is touched; the error says what would do it."""
    snapshot = site.backup(filled)
    run_in_volume(filled, "echo newer >newer")
    before = run_in_volume(filled, LIST)
    with pytest.raises(VolumeInUse) as caught:
        site.restore(snapshot)
    assert "--replace" in str(caught.value.hint)
    assert run_in_volume(filled, LIST) == before


def test_replaced_files_are_saved_first(site: Site, filled: str, run_in_volume: RunInVolume) -> None:
    """With --replace the volume's content becomes a snapshot, then makes room."""
    before = run_in_volume(filled, LIST)
    snapshot = site.backup(filled)
    run_in_volume(filled, "rm noise; echo newer >newer; mkdir '.hidden dir'; touch '.hidden dir/x'")
    newer = run_in_volume(filled, LIST)
    result = site.restore(snapshot, replace=True)
    assert run_in_volume(filled, LIST) == before
    assert result.saved is not None
    site.restore(site.context.repository.find(filled, result.saved), replace=True)
    assert run_in_volume(filled, LIST) == newer


def test_a_volume_in_use_is_refused(site: Site, filled: str, start_container: StartContainer) -> None:
    """I18: a running container uses it, even if it only reads; the error names it and what would do it."""
    snapshot = site.backup(filled)
    name = f"backupd-test-user-{uuid.uuid4().hex[:8]}"
    user = start_container("sleep 1000", filled, name=name)
    with pytest.raises(VolumeInUse, match=name) as caught:
        site.restore(snapshot)
    assert f"docker stop {name}" in str(caught.value.hint)
    assert "--replace" in str(caught.value.hint)
    site.context.engine.api.pause(user)
    with pytest.raises(VolumeInUse, match="paused") as caught:
        site.restore(snapshot, replace=True)
    assert f"docker stop {name}" in str(caught.value.hint)
    site.context.engine.api.unpause(user)


def test_a_missing_chunk_stops_the_restore_before_anything_is_touched(
    site: Site, filled: str, run_in_volume: RunInVolume
) -> None:
    """T1: refused, and the target, which was to be replaced, is as it was."""
    snapshot = site.backup(filled)
    run_in_volume(filled, "echo newer >newer")
    before = run_in_volume(filled, LIST)
    site.storage.hide(next(site.context.repository.reader(snapshot).slices()).pack)
    with pytest.raises(ObjectDamaged, match="missing"):
        site.restore(snapshot, replace=True)
    assert run_in_volume(filled, LIST) == before


def test_a_volume_made_for_a_restore_that_failed_is_removed(site: Site, filled: str) -> None:
    """R4: a damaged chunk in the middle: the error names it, and no half-filled volume stays."""
    snapshot = site.backup(filled)
    damaged = max(site.context.repository.reader(snapshot).slices(), key=lambda each: each.length)
    site.storage.flip_bit(damaged.pack, damaged.offset * 8 + 999)
    with pytest.raises(ObjectDamaged, match=re.escape(str(damaged))):
        site.restore(snapshot, to="backupd-test-never-made")
    with pytest.raises(VolumeNotFound):
        site.context.engine.volume("backupd-test-never-made")


def test_a_failed_replacement_leaves_what_was_there(
    site: Site, filled: str, run_in_volume: RunInVolume
) -> None:
    """R4: a damaged chunk shows while the new content is built; the old has not moved."""
    snapshot = site.backup(filled)
    run_in_volume(filled, "echo newer >newer; rm noise")
    newer = run_in_volume(filled, INSIDE)
    noise = max(site.context.repository.reader(snapshot).slices(), key=lambda each: each.length)
    site.storage.flip_bit(noise.pack, noise.offset * 8 + 999)
    with pytest.raises(ObjectDamaged):
        site.restore(snapshot, replace=True)
    assert run_in_volume(filled, INSIDE) == newer


def test_a_wipe_that_failed_says_where_the_old_files_are(
    site: Site, filled: str, run_in_volume: RunInVolume
) -> None:
    """The hint is the command that brings them back, and that works."""
    snapshot = site.backup(filled)
    run_in_volume(filled, "echo newer >newer; rm noise")
    newer = run_in_volume(filled, LIST)
    noise = max(site.context.repository.reader(snapshot).slices(), key=lambda each: each.length)
    site.storage.flip_bit(noise.pack, noise.offset * 8 + 999)
    with pytest.raises(ObjectDamaged) as caught:
        site.restore(snapshot, wipe=True)
    saved = site.context.repository.find(filled)
    assert f"backupd restore {filled} --snapshot {saved.snapshot} --replace" in str(caught.value.hint)
    site.restore(saved, replace=True)
    assert run_in_volume(filled, LIST) == newer


def test_a_volume_too_small_for_its_files_is_an_error_in_tars_words(
    site: Site, filled: str, make_volume: MakeVolume
) -> None:
    """The disk fills while tar writes: the reason is told, not a broken pipe."""
    small = make_volume(type="tmpfs", device="tmpfs", o="size=1m")
    with pytest.raises(EngineError, match=r"No space left on device|Wrote only"):
        site.restore(site.backup(filled), to=small)


def test_a_volume_whose_options_were_secret_is_not_made_up(site: Site, make_volume: MakeVolume) -> None:
    """I21: the password is not in the snapshot, so the volume must be created by who knows it."""
    volume = make_volume(type="tmpfs", device="tmpfs", o="size=1m,mode=700")
    snapshot = site.backup(volume)
    secret = Volume(volume, "local", {"o": "(redacted)"}, {})
    changed = type(snapshot)(**{**vars(snapshot), "volume": secret, "redacted": ("options.o",)})
    with pytest.raises(EngineError, match=r"options\.o") as caught:
        plan(site.context, changed, to="backupd-test-never-made", consent=Consent())
    assert "docker volume create" in str(caught.value.hint)


def test_a_plan_says_what_will_be_lost(site: Site, filled: str, run_in_volume: RunInVolume) -> None:
    """A person reads it before typing yes."""
    snapshot = site.backup(filled)
    text = str(plan(site.context, snapshot, to=None, consent=Consent(replace=True)))
    assert "REPLACING ALL ITS FILES" in text
    assert snapshot.snapshot in text
    assert "saved as a snapshot first" in text
