"""Golden vectors of format 1: repositories written once stay readable, and cuts stay where they were."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

import pytest

from backupd import errors
from backupd.repository import Keys, Repository
from backupd.repository.slices import Slice
from backupd.repository.stream.codec import Codec
from backupd.snapshot import decode as decode_manifest
from backupd.storage.local import LocalStorage
from backupd.storage.memory import MemoryStorage
from tests.streams import load, save, tar_of
from tests.vectors.make import ENCRYPTED, SNAPSHOT, chunks_of, encrypted_keys, noise_stream, tree

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


@pytest.mark.parametrize("who", ["first", "second", "passphrase"])
def test_the_encrypted_repository_is_still_read(who: str) -> None:
    """Manifest, index, what it conceals, and stream, for each of those to whom it was encrypted."""
    repository = Repository.open(LocalStorage(ENCRYPTED / "repository"), _keys_of(who))
    manifest = repository.find("shop_data")
    assert (manifest.snapshot, manifest.host, manifest.members) == (SNAPSHOT, "db1", {"file": 65})
    assert load(repository, manifest) == tar_of(tree())
    reader = repository.reader(manifest)
    assert [entry.path.decode() for entry in reader.members()] == sorted(tree())
    assert reader.concealed() == {"options.o": "username=shop,password=vector"}


def _keys_of(who: str) -> Keys:
    if who == "passphrase":
        return Keys(passphrase_file=ENCRYPTED / "passphrase")
    return Keys(identity_file=ENCRYPTED / ("key.txt" if who == "first" else "key2.txt"))


def test_keyed_ids_are_what_they_were(tmp_path: Path) -> None:
    """A tree saved again stores nothing new: other ids would store everything again."""
    copy = tmp_path / "copy"
    shutil.copytree(ENCRYPTED / "repository", copy)
    with LocalStorage(copy) as storage:
        again = save(Repository.open(storage, encrypted_keys()), tar_of(tree()), host="db2")
    assert (again.chunks.new, again.chunks.count) == (0, 14)


@pytest.mark.parametrize(
    "vector", json.loads((ENCRYPTED / "invalid.json").read_text()), ids=lambda vector: vector["case"]
)
def test_what_was_refused_of_the_encrypted_is_refused(vector: dict[str, str]) -> None:
    """I15: one vector for each way in which an encrypted chunk can be wrong."""
    storage = MemoryStorage()
    storage.put("backupd.json", (ENCRYPTED / "repository" / "backupd.json").read_bytes())
    chunks = Repository.open(storage, encrypted_keys()).chunks
    whole = chunks.prepare(b"one", lambda chunk: None)
    pack = f"packs/db1/shop_data/{SNAPSHOT}/0123456789abcdef.pack"
    for frame in (bytes(whole.frame or b""), base64.b64decode(vector["object"])):
        storage.put(pack, frame or b"x")
        at = Slice(pack, 0, len(frame) or 1, whole.chunk)
        if frame == whole.frame:
            assert chunks.load(at) == b"one"
            storage.delete(pack)
    with pytest.raises(errors.ObjectDamaged, match=re.escape(pack)):
        chunks.load(at)


def _decode(kind: str, content: bytes) -> None:
    if kind == "chunk":
        Codec().decode(content, chunk=Codec().identify(b"one"), key="x.pack@0+1")
    elif kind == "line":
        Slice.parse(content, "x.chunks.zst")
    else:
        decode_manifest(content, key="k.json")
