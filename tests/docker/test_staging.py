"""New content takes the place of the old inside a volume, and can be stopped anywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backupd.engine.client import Engine
from backupd.engine.image import HelperImage
from backupd.engine.staging import Staging
from tests.docker.conftest import MakeVolume, RunInVolume
from tests.docker.tar import INSTANCE, RUN_ID

pytestmark = pytest.mark.docker

OLD = (
    "chmod 700 .; mkdir -p 'a dir' both; echo 1 >'a dir/f'; echo 1 >both/x; echo >.hidden; echo >'new\nline'"
)
NEW = "mkdir -p both other; echo new >both/x; echo new >other/y; echo new >.hidden"
ROOT = "chown 7:8 .; chmod 2751 .; touch -d @1000000000.5 ."
SEE_ROOT = "stat -c '%u:%g %a %Y' ."
SEE = 'find . -type f -exec sh -c \'printf "%s=" "$1"; cat "$1"\' _ {} \';\' | sort'


@pytest.fixture(params=["gnu", "busybox"])
def staging(
    request: pytest.FixtureRequest, engine: Engine, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> Staging:
    """A volume with content, and new content beside it that has not been proven yet."""
    image: HelperImage = request.getfixturevalue(request.param)
    volume = make_volume()
    run_in_volume(volume, OLD)
    made = Staging(engine, volume, image, INSTANCE, RUN_ID)
    assert made.begin() > 1_000_000
    run_in_volume(volume, f"cd {made.below}; {NEW}; {ROOT}")
    return made


@pytest.fixture
def before(make_volume: MakeVolume, run_in_volume: RunInVolume) -> Callable[[str], str]:
    """What a volume shows that was filled by that script alone."""

    def shown(script: str) -> str:
        volume = make_volume()
        run_in_volume(volume, script)
        return run_in_volume(volume, SEE)

    return shown


def test_the_new_content_takes_the_place_of_the_old(
    staging: Staging, run_in_volume: RunInVolume, before: Callable[[str], str]
) -> None:
    """All of it, and nothing else; whoever calls again changes nothing."""
    staging.prove()
    staging.swap()
    assert run_in_volume(staging.volume, SEE) == before(NEW)
    staging.swap()
    assert run_in_volume(staging.volume, SEE) == before(NEW)
    assert run_in_volume(staging.volume, SEE_ROOT) == "7:8 2751 1000000000\n"


def test_what_was_not_proven_is_undone(
    staging: Staging, run_in_volume: RunInVolume, before: Callable[[str], str]
) -> None:
    """The old content has never moved."""
    staging.undo()
    assert run_in_volume(staging.volume, SEE) == before(OLD)
    assert run_in_volume(staging.volume, SEE_ROOT).startswith("0:0 700 ")


def test_a_restore_that_was_killed_before_the_proof_leaves_the_old_content(
    staging: Staging, run_in_volume: RunInVolume, before: Callable[[str], str]
) -> None:
    """And one that was killed after it is brought to its end. (T2)"""
    staging.finish()
    assert run_in_volume(staging.volume, SEE) == before(OLD)
    staging.begin()
    run_in_volume(staging.volume, f"cd {staging.below}; {NEW}")
    staging.prove()
    staging.finish()
    assert run_in_volume(staging.volume, SEE) == before(NEW)


STOPS = {
    "nothing moved": "true",
    "some of the old moved": "mkdir {p}-old; mv 'a dir' {p}-old/",
    "all of the old moved": "mkdir {p}-old; mv 'a dir' both .hidden new* {p}-old/",
    "none of the new moved": "mkdir {p}-old; mv 'a dir' both .hidden new* {p}-old/; mv {p}-proven {p}-moving",
    "some of the new moved": "mkdir {p}-old; mv 'a dir' both .hidden new* {p}-old/; mv {p}-proven {p}-moving;"
    " mv {p}-moving/both .",
}


@pytest.mark.parametrize("staging", ["gnu"], indirect=True)
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("way", ["swap", "undo"])
def test_a_swap_that_was_killed_is_finished_or_undone(
    staging: Staging, run_in_volume: RunInVolume, before: Callable[[str], str], stop: str, way: str
) -> None:
    """Which directories are there says how far it came. (T2)"""
    staging.prove()
    run_in_volume(staging.volume, STOPS[stop].format(p=".backupd-restore"))
    getattr(staging, way)()
    assert run_in_volume(staging.volume, SEE) == before(NEW if way == "swap" else OLD)
