"""The manifest: what is written is read back, what is strange is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from backupd.errors import ObjectDamaged, RepositoryUnsupported
from backupd.snapshot import (
    Chunks,
    Compose,
    Manifest,
    Quiesced,
    Sidecars,
    Sizes,
    Tar,
    Window,
    decode,
    new_id,
)
from backupd.volume import Volume

MANIFEST = Manifest(
    snapshot="20261123T020000Z-7f3a",
    host="db1",
    volume=Volume("shop_data", "local", {"type": "nfs"}, {"com.docker.compose.project": "shop"}),
    started=datetime(2026, 11, 23, 2, 0, 0, 123456, UTC),
    finished=datetime(2026, 11, 23, 2, 0, 7, tzinfo=UTC),
    consistency="crash-consistent",
    quiesced=Quiesced("pause", ("shop-db-1",), 0.8),
    tar=Tar("gnu", "1.34", ("--format=posix",)),
    members={"file": 3, "directory": 1},
    bytes=Sizes(tar=10240, content=9000, new=512, stored=200),
    chunks=Chunks(count=2, new=1, min=512, max=9728),
    sidecars=Sidecars("0" * 64, "1" * 64),
    outcome="ok",
    tool="backupd 0.1.0",
    compose=Compose("shop", ("db",)),
    parent="20261122T020000Z-0000",
    skipped=1,
    redacted=("options.o",),
    warnings=("tar: ./x: file changed as we read it",),
)


def test_a_manifest_is_read_back_as_it_was() -> None:
    """Decoding and encoding are inverse, down to the bytes."""
    data = MANIFEST.encode()
    assert decode(data, key="k") == MANIFEST
    assert decode(data, key="k").encode() == data
    assert len(data) < 4096


def test_a_collapse_is_read_back_and_its_absence_takes_no_place() -> None:
    """I11: manifests from before there was such a field are read, and written as they were."""
    collapsed = replace(MANIFEST, collapsed_from="20261122T020000Z-0000")
    assert decode(collapsed.encode(), key="k") == collapsed
    assert b"collapsed" not in MANIFEST.encode()
    with pytest.raises(ObjectDamaged):
        decode(json.dumps({**MANIFEST.as_json(), "collapsed_from": 1}).encode(), key="k")


def test_a_window_is_read_back_and_its_absence_takes_no_place() -> None:
    """What was read together says so; what was read alone is written as it always was."""
    began, ended = MANIFEST.started, MANIFEST.finished
    window = Window("20261123T020000Z-9b01", ("shop_data", "shop_up"), began, ended)
    together = replace(MANIFEST, window=window)
    assert decode(together.encode(), key="k") == together
    assert b"window" not in MANIFEST.encode()
    with pytest.raises(ObjectDamaged):
        decode(json.dumps({**MANIFEST.as_json(), "window": {"run": "r"}}).encode(), key="k")


def test_times_are_written_in_utc() -> None:
    """Whatever zone the writer lives in."""
    local = replace(MANIFEST, started=MANIFEST.started.astimezone(timezone(timedelta(hours=5))))
    assert local.encode() == MANIFEST.encode()


@pytest.mark.parametrize(
    ("key", "value"), [("format", 2), ("format", None), ("format", "1"), ("required_features", ["packs"])]
)
def test_a_manifest_of_another_format_is_refused(key: str, value: object) -> None:
    """I16: unknown versions and features are not guessed at."""
    data = json.dumps({**MANIFEST.as_json(), key: value}).encode()
    with pytest.raises(RepositoryUnsupported, match=r"k has format|k needs features"):
        decode(data, key="k")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff",
        b'{"format":1,"format":1}',
        b'{"format":NaN}',
        b'{"format":1}',
        b"[" * 9999,
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    """I16: duplicate keys, NaN, half an object, deep nesting."""
    with pytest.raises((ObjectDamaged, RepositoryUnsupported), match="the-key"):
        decode(data, key="the-key")


@pytest.mark.parametrize(
    "key", [key for key in MANIFEST.as_json() if key not in ("format", "required_features")]
)
def test_a_manifest_lacking_a_key_is_refused(key: str) -> None:
    """Every key is there in every manifest of format 1."""
    values = MANIFEST.as_json()
    del values[key]
    with pytest.raises(ObjectDamaged, match=key):
        decode(json.dumps(values).encode(), key="k")


def test_ids_sort_by_time() -> None:
    """A later snapshot has a later id, in any zone."""
    early = new_id(datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))))
    late = new_id(datetime(2026, 1, 1, tzinfo=UTC))
    assert early < late
    assert early.startswith("20251231T230000Z-")
