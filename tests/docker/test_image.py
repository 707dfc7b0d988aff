"""The ladder of helper images."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.engine import image as image_module
from backupd.engine.client import Engine
from backupd.engine.image import PLAIN, helper_image
from backupd.errors import HelperImageUnavailable
from tests.docker.conftest import SHELL_IMAGE

pytestmark = pytest.mark.docker


def test_configured_image_is_used_and_its_tar_known(engine: Engine) -> None:
    """What is configured and there is taken as it is, without a word."""
    said: list[str] = []
    image = helper_image(engine, SHELL_IMAGE, said.append, instance="backupd-test")
    assert (image.reference, image.tar) == (SHELL_IMAGE, "gnu")
    assert image.version[0].isdigit()
    assert "--sort=name" in image.flags
    assert said == []


def test_a_known_image_is_not_asked_again(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an image's tar is, is asked once a state directory, not once a command; damage is no obstacle."""
    memory = tmp_path / "cache"
    first = helper_image(engine, SHELL_IMAGE, print, instance="backupd-test", memory=memory)
    (note,) = memory.iterdir()
    asked: list[str] = []
    monkeypatch.setattr(
        image_module,
        "_said_by_tar",
        lambda engine, reference, instance: asked.append(reference) or "tar (GNU tar) 9",
    )
    assert helper_image(engine, SHELL_IMAGE, print, instance="backupd-test", memory=memory) == first
    assert asked == []
    note.write_bytes(b"\xff damaged")
    assert helper_image(engine, SHELL_IMAGE, print, instance="backupd-test", memory=memory).version == "9"
    assert asked == [SHELL_IMAGE]


def test_plain_alpine_is_known_for_its_busybox(engine: Engine) -> None:
    """The tar that loses attributes is told apart from the one that does not."""
    assert helper_image(engine, PLAIN, print, instance="backupd-test").tar == "busybox"


def test_configured_image_that_cannot_be_had_is_an_error(engine: Engine) -> None:
    """E11: the image is asked for by name, and its absence found before anything else happens."""
    said: list[str] = []
    with pytest.raises(HelperImageUnavailable, match=r"backupd\.invalid/nothing:1") as caught:
        helper_image(engine, "backupd.invalid/nothing:1", said.append, instance="backupd-test")
    assert caught.value.hint
    assert any("pulling" in line for line in said)


def test_image_is_built_or_plain_alpine_taken(engine: Engine) -> None:
    """Without configuration there is an image in the end, and the second time nothing is to be said."""
    first = helper_image(engine, None, lambda _: None, instance="backupd-test")
    assert first.reference.startswith(("backupd-helper:", "alpine:"))
    if first.tar == "gnu":
        said: list[str] = []
        assert helper_image(engine, None, said.append, instance="backupd-test") == first
        assert said == []


def test_no_image_at_all_is_one_error_with_all_reasons(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E11: neither built nor pulled: the error says why for each, and what to do."""
    nowhere = "backupd.invalid/alpine:1"
    monkeypatch.setattr("backupd.engine.image.PLAIN", nowhere)
    monkeypatch.setattr("backupd.engine.image.RECIPE", f"FROM {nowhere}\n".encode())
    with pytest.raises(HelperImageUnavailable, match=r"cannot build .*; cannot pull") as caught:
        helper_image(engine, None, lambda _: None, instance="backupd-test")
    assert caught.value.hint
    assert nowhere in caught.value.hint
