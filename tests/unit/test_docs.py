"""The documents say what the program does: commands, labels, settings, files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from backupd import protection
from backupd.cli.parser import build_parser
from backupd.metrics import FAMILIES
from backupd.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs").rglob("*.md"),
]
BLOCKS = "\n".join(re.findall(r"^ *```\w*\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL))
COMMANDS = sorted(
    {
        *re.findall(r"^ *(backupd [a-z].*?)(?: {2,}.*| \|.*)?$", BLOCKS, re.MULTILINE),
        *re.findall(r"`(backupd [a-z][^`]*)`", README),
    }
)


def test_the_readme_shows_every_command() -> None:
    """Nothing the program can do is left out."""
    choices = next(action for action in build_parser()._actions if action.dest == "command").choices
    assert choices is not None
    assert {shlex.split(command)[1] for command in COMMANDS} == set(choices)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_in_the_readme_is_understood(command: str) -> None:
    """What stands there can be typed."""
    build_parser().parse_args(shlex.split(command)[1:])


def test_the_readmes_labels_are_those_that_exist() -> None:
    """Both ways."""
    rows = "\n".join(re.findall(r"^\| (`backupd\.[^|]*) \|", README, re.MULTILINE))
    documented = set(re.findall(r"`backupd\.([a-z-]+)`", rows))
    assert documented == set(protection.LABEL_KEYS)


def test_the_guides_metrics_are_those_that_exist() -> None:
    """Both ways, each with its type and meaning."""
    guide = (ROOT / "docs" / "GUIDE.md").read_text()
    documented = re.findall(r"^\| `(backupd_\w+)` \| (\w+) \| (.*) \|$", guide, re.MULTILINE)
    assert {name: (kind, meaning) for name, kind, meaning in documented} == dict(FAMILIES)


def test_variables_in_the_documents_exist() -> None:
    """A variable that a reader copies is one that is known."""
    known = {f"BACKUPD_{name}".upper() for name in _keys(Settings)} | {"BACKUPD_CONFIG"}
    for document in DOCUMENTS:
        for name in re.findall(r"\bBACKUPD_[A-Z_]+\b", document.read_text()):
            assert {name, name.removesuffix("_FILE")} & known, f"{name} in {document.name}"


def test_files_that_the_documents_name_exist() -> None:
    """Links and paths of modules."""
    package = {path.relative_to(ROOT / "backupd").as_posix() for path in (ROOT / "backupd").rglob("*.py")}
    for document in DOCUMENTS:
        text = document.read_text()
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (document.parent / link).exists(), f"{link} in {document.name}"
        for path in re.findall(r"`(?:backupd/)?((?:[a-z]+/)*[a-z]+\.py)`", text):
            assert path in package or (ROOT / path).exists(), f"{path} in {document.name}"


def test_make_targets_in_the_documents_exist() -> None:
    """`make` with what stands after it."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"(?:^|`)make ([a-z]+)", document.read_text(), re.MULTILINE))
        assert named <= targets, document.name


def _keys(model: type, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        inner = field.annotation
        if hasattr(inner, "model_fields"):
            keys += _keys(inner, f"{prefix}{name}__")
        else:
            keys.append(prefix + name)
    return keys
