"""Encrypted snapshots of real volumes: written without a secret, restored with it, by backupd and by hand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from io import BytesIO
from pathlib import Path

import pytest
import zstandard

from backupd.engine.client import Engine
from backupd.errors import KeyMissing, StreamRejected
from backupd.operations.export import export
from backupd.operations.restore import Consent, plan
from backupd.progress import silent
from backupd.repository import Keys, Repository
from tests.docker.conftest import MakeVolume, RunInVolume
from tests.docker.operations.conftest import Site, site_on
from tests.docker.operations.recipe import run_with_repository
from tests.docker.program import Program
from tests.docker.trees import LISTING, TORTURE
from tests.keys import KeyPair, age_pair, ssh_pair
from tests.streams import save
from tests.unit.test_admit import FILE, archive

pytestmark = pytest.mark.docker


@pytest.fixture
def pair(tmp_path: Path) -> KeyPair:
    """Whose repository it is."""
    return age_pair(tmp_path)


@pytest.fixture
def writing(engine: Engine, tmp_path: Path, pair: KeyPair) -> Iterator[Site]:
    """A host that writes to an encrypted repository and has no identity."""
    with site_on(engine, tmp_path, pair.keys(id_key_file=tmp_path / "id_key", reads=False)) as site:
        yield site


@pytest.fixture
def reading(writing: Site, pair: KeyPair) -> Site:
    """A host that has nothing but the identity."""
    repository = Repository.open(writing.storage, Keys(identity_file=pair.identity_file))
    return replace(writing, context=replace(writing.context, repository=repository))


@pytest.fixture
def tortured(make_volume: MakeVolume, run_in_volume: RunInVolume) -> str:
    """A volume with the torture tree in it."""
    volume = make_volume()
    run_in_volume(volume, TORTURE)
    return volume


def test_written_without_a_secret_and_restored_with_it(
    writing: Site, reading: Site, tortured: str, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """Backup, a second run that stores nothing new, the list; then the other host restores every file."""
    first, second = writing.backup(tortured), writing.backup(tortured)
    assert second.bytes.new == 0
    listed = {each.snapshot for each in writing.context.repository.snapshots()}
    assert listed == {first.snapshot, second.snapshot}
    target = make_volume()
    reading.restore(reading.context.repository.find(tortured), to=target)
    assert run_in_volume(target, LISTING).splitlines() == run_in_volume(tortured, LISTING).splitlines()


def test_without_an_identity_nothing_is_restored_or_exported(
    writing: Site, tortured: str, run_in_volume: RunInVolume
) -> None:
    """I17: said before anything is touched, even with --replace; and what to do."""
    snapshot = writing.backup(tortured)
    before = run_in_volume(tortured, LISTING)
    with pytest.raises(KeyMissing) as caught:
        writing.restore(snapshot, replace=True)
    assert "encryption.identity_file" in str(caught.value.hint)
    out = BytesIO()
    with pytest.raises(KeyMissing):
        export(writing.context.repository, snapshot, None, out, progress=silent, cancel=threading.Event())
    assert out.getvalue() == b""
    assert run_in_volume(tortured, LISTING) == before
    assert len(writing.context.repository.snapshots()) == 1


def test_options_and_labels_are_hidden_and_come_back(
    writing: Site, reading: Site, make_volume: MakeVolume
) -> None:
    """I21: all of them, passwords and plain ones; but for the labels that list a compose project."""
    labels = {"com.docker.compose.project": "shop", "owner": "the secret office"}
    volume = make_volume(labels=labels, type="tmpfs", device="tmpfs", o="size=50m,uid=70")
    snapshot = writing.backup(volume)
    described = writing.context.engine.volume(volume)
    stored = (writing.directory / "repository" / snapshot.key).read_text()
    assert "size=50m" not in stored
    assert "secret office" not in stored
    assert snapshot.volume.project == "shop"
    writing.context.engine.remove_volume(volume)
    assert reading.restore(reading.context.repository.find(volume)).created
    assert writing.context.engine.volume(volume) == described


def test_a_changed_files_name_is_not_in_the_open(
    writing: Site, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """Nothing under the repository's directory holds a file's name or content."""
    volume = make_volume()
    run_in_volume(volume, "echo the-content >the-name; mkdir the-directory")
    writing.backup(volume)
    found = subprocess.run(
        ["grep", "-rlE", "the-(content|name|directory)", writing.directory / "repository"],
        stdout=subprocess.PIPE, check=False,
    )  # fmt: skip
    assert found.stdout == b""


@pytest.mark.parametrize("kind", ["age", "ssh"])
def test_the_shell_recipe_restores_with_age_and_no_backupd(
    engine: Engine,
    tmp_path: Path,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    tortured: str,
    kind: str,
) -> None:
    """The commands of README.txt for encrypted repositories: Debian's age, sh, zstd and tar."""
    pair = age_pair(tmp_path) if kind == "age" else ssh_pair(tmp_path)
    keys = pair.keys(id_key_file=tmp_path / "id_key", reads=False)
    with site_on(engine, tmp_path, keys) as site:
        snapshot = site.backup(tortured)
        target = make_volume()
        recipe = _recipe().replace(
            "HOST/VOLUME/20261123T020000Z-7f3a", f"testhost/{tortured}/{snapshot.snapshot}"
        )
        recipe = recipe.replace("mkdir TARGET\n", "").replace("TARGET", "/volume").replace("KEYFILE", "/key")
        tools = {_age(): "/usr/bin/age", pair.identity_file: "/key"}
        run_with_repository(site, target, f"cd /repository\n{recipe}", tools)
    assert run_in_volume(target, LISTING).splitlines() == run_in_volume(tortured, LISTING).splitlines()


def _recipe() -> str:
    """The indented block of README.txt that restores from an encrypted repository."""
    text = resources.files("backupd.repository").joinpath("README.txt").read_text()
    blocks = re.findall(r"^  S=.*?--directory TARGET$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    return "\n".join(line.removeprefix("  ") for line in blocks[1].splitlines()) + "\n"


def _age(name: str = "age") -> Path:
    """The program, which the set-up of the tests has fetched."""
    found = shutil.which(name)
    assert found, "tests/engine/fetch age"
    return Path(found).resolve()


def test_age_itself_opens_the_id_key_and_the_index(writing: Site, tortured: str, pair: KeyPair) -> None:
    """How another host gets the id_key, and a person the list of files, with Debian's age alone."""
    snapshot = writing.backup(tortured)
    marker = json.loads((writing.directory / "repository" / "backupd.json").read_text())
    assert (
        _decrypted(marker["encryption"]["id_key"].encode(), pair)
        == (writing.directory / "id_key").read_bytes()
    )
    index = _decrypted((writing.directory / "repository" / snapshot.index_key).read_bytes(), pair)
    with zstandard.ZstdDecompressor().stream_reader(index, read_across_frames=True) as stream:
        lines = stream.read().splitlines()
    assert list(json.loads(lines[0])) == ["concealed"]
    assert len(lines) == 1 + sum(snapshot.members.values())


def _decrypted(sealed: bytes, pair: KeyPair) -> bytes:
    return subprocess.run(
        [_age(), "-d", "-i", pair.identity_file], input=sealed, stdout=subprocess.PIPE, check=True
    ).stdout


def test_keys_of_age_keygen_open_and_close(
    engine: Engine, tmp_path: Path, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """As a user has it: age-keygen, settings, init, backup, restore; and no secret is told on the way."""
    key = tmp_path / "key.txt"
    subprocess.run([_age("age-keygen"), "-o", key], check=True, capture_output=True)
    public = subprocess.run(
        [_age("age-keygen"), "-y", key], check=True, capture_output=True, text=True
    ).stdout
    program = Program(engine, tmp_path)
    program.add_settings(f'[encryption]\nrecipients = ["{public.strip()}"]\n')
    told = program.run("init").stderr.decode()
    id_key = tmp_path / "state" / "id_key"
    assert str(id_key) in told
    assert id_key.read_text().strip() not in told
    volume = make_volume(program.name)
    run_in_volume(volume, "echo one >file")
    outputs = [program.run("backup", volume), program.run("snapshots")]
    for words in (["restore", volume, "--replace", "--yes"], ["export", program.snapshots(volume)[0]]):
        outputs.append(program.run(*words, code=1))
        assert b"encryption.identity_file" in outputs[-1].stderr
    run_in_volume(volume, "echo two >file")
    program.add_settings(f'[encryption]\nidentity_file = "{key}"\n')
    outputs.append(program.run("restore", volume, "--replace", "--yes"))
    assert run_in_volume(volume, "cat file") == "one\n"
    told = b"".join(done.stdout + done.stderr for done in outputs).decode()
    assert id_key.read_text().strip() not in told
    assert "AGE-SECRET-KEY" not in told


def test_a_hostile_snapshot_is_refused_before_anything_is_touched(
    site: Site, make_volume: MakeVolume, run_in_volume: RunInVolume
) -> None:
    """I14: the index shows it, and the volume that was to be replaced is as it was."""
    volume = make_volume()
    run_in_volume(volume, "echo kept >kept")
    save(
        site.context.repository,
        archive(("./a", FILE, ""), ("../b", FILE, "")),
        host="testhost",
        volume=volume,
    )
    snapshot = site.context.repository.find(volume)
    with pytest.raises(StreamRejected, match="leads out"):
        plan(site.context, snapshot, to=None, consent=Consent(replace=True))
    assert run_in_volume(volume, "cat kept") == "kept\n"
    assert len(site.context.repository.snapshots()) == 1
