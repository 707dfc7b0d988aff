"""Everything a file system can hold survives, with backupd and without it."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from tests.docker.conftest import MakeVolume, RunInVolume
from tests.docker.operations.conftest import Site
from tests.docker.operations.recipe import run_with_repository
from tests.docker.trees import LISTING, TORTURE

pytestmark = pytest.mark.docker


@pytest.fixture
def tortured(make_volume: MakeVolume, run_in_volume: RunInVolume) -> str:
    """A volume with the torture tree in it."""
    volume = make_volume()
    run_in_volume(volume, TORTURE)
    return volume


def test_the_torture_tree_comes_back_without_a_difference(
    site: Site, tortured: str, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """I12: names, holes, links, owners, modes, times, attributes, ACLs, capabilities, devices.

    Sockets are counted. Saving what was restored gives the same chunks, which proves what no listing shows.
    """
    snapshot = site.backup(tortured)
    assert snapshot.skipped == 1
    assert snapshot.warnings == ()
    target = make_volume()
    site.restore(snapshot, to=target)
    before, after = run_in_volume(tortured, LISTING), run_in_volume(target, LISTING)
    assert after.splitlines() == before.splitlines()
    again = site.backup(target)
    reader = site.context.repository.reader
    assert list(reader(again).slices()) == list(reader(snapshot).slices())
    assert again.bytes.new == 0


def test_a_file_of_nine_gib_comes_back(
    site: Site, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """I12: a size that no octal number in a header holds; of holes, so that it costs no disk."""
    volume, target = make_volume(), make_volume()
    run_in_volume(volume, "truncate -s 9G big; echo end >>big")
    site.restore(site.backup(volume), to=target)
    look = "stat -c '%s' big; tail -c 4 big; [ $(stat -c %b big) -lt 1000 ] && echo holes"
    assert run_in_volume(target, look) == f"{9 * 1024**3 + 4}\nend\nholes\n"


def test_the_shell_recipe_restores_without_backupd(
    site: Site, tortured: str, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """The commands of the repository's README.txt, with sh, zstd, awk, tail, head and tar alone."""
    snapshot = site.backup(tortured)
    target = make_volume()
    recipe = _recipe().replace(
        "HOST/VOLUME/20261123T020000Z-7f3a", f"testhost/{tortured}/{snapshot.snapshot}"
    )
    recipe = recipe.replace("mkdir TARGET\n", "").replace("TARGET", "/volume")
    run_with_repository(site, target, f"cd /repository\n{recipe}")
    before, after = run_in_volume(tortured, LISTING), run_in_volume(target, LISTING)
    assert after.splitlines() == before.splitlines()


def _recipe() -> str:
    """The indented block of README.txt that restores."""
    text = resources.files("backupd.repository").joinpath("README.txt").read_text()
    block = re.search(r"^  S=.*?--directory TARGET$", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    return "\n".join(line.removeprefix("  ") for line in block.group().splitlines()) + "\n"
