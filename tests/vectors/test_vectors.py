"""Golden vectors of format 1: repositories written once stay readable, and cuts stay where they were."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from backupd import errors
from backupd.repository import Repository
from backupd.repository.codec import Codec
from backupd.snapshot import decode as decode_manifest
from backupd.storage.local import LocalStorage
from tests.streams import load, tar_of
from tests.vectors.make import SNAPSHOT, chunks_of, noise_stream, tree

HERE = Path(__file__).parent


def test_the_first_repository_is_still_read() -> None:
    """Manifest, index and stream of a repository that was written with the first version."""
    repository = Repository.open(LocalStorage(HERE / "format1"))
    manifest = repository.find("shop_data")
    assert (manifest.snapshot, manifest.host, manifest.members) == (SNAPSHOT, "db1", {"file": 65})
    assert load(repository, manifest) == tar_of(tree())
    assert [entry.path.decode() for entry in repository.reader(manifest).members()] == sorted(tree())


def test_cuts_are_where_they_were() -> None:
    """A chunker that cuts elsewhere would store everything again: its cut points are pinned."""
    assert [list(chunk) for chunk in chunks_of(noise_stream())] == json.loads(
        (HERE / "cuts.json").read_text()
    )


@pytest.mark.parametrize(
    "vector",
    json.loads((HERE / "invalid.json").read_text()),
    ids=lambda vector: f"{vector['kind']}-{vector['case']}",
)
def test_what_was_refused_is_refused(vector: dict[str, str]) -> None:
    """One vector for each way in which an object can be wrong."""
    content = base64.b64decode(vector["object"])
    expected = getattr(errors, vector["error"])
    with pytest.raises(expected):
        _decode(vector["kind"], content)


def _decode(kind: str, content: bytes) -> None:
    if kind == "chunk":
        Codec().decode(content, chunk=Codec().identify(b"one"), key="chunks/x.zst")
    else:
        decode_manifest(content, key="k.json")
