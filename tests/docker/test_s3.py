"""A volume's way into a bucket and back, with the program as a user runs it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from docker.errors import NotFound

from backupd.engine.client import Engine
from tests.docker.conftest import MakeVolume, RunInVolume
from tests.docker.program import Program
from tests.s3.account import Account

pytestmark = [pytest.mark.docker, pytest.mark.s3]

FILL = "mkdir etc; echo welcome > etc/motd; chown 7:8 etc/motd; head -c 9000000 /dev/urandom > large"
LOOK = "cat etc/motd; stat -c '%u:%g %F' etc/motd; sha256sum large"


def test_volume_comes_back_from_a_bucket(
    engine: Engine,
    account: Account,
    tmp_path: Path,
    make_volume: MakeVolume,
    run_in_volume: RunInVolume,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """init, backup, snapshots, show and restore, with the secret key in a file and never in what is said."""
    bucket = account.bucket()
    (tmp_path / "secret").write_text(account.keys.secret_key + "\n")
    monkeypatch.setenv("BACKUPD_S3__ENDPOINT", account.endpoint)
    monkeypatch.setenv("BACKUPD_S3__ACCESS_KEY", account.keys.access_key)
    monkeypatch.setenv("BACKUPD_S3__SECRET_KEY_FILE", str(tmp_path / "secret"))
    program = Program(engine, tmp_path, storage=f"s3://{bucket}/db1")
    made = program.run("init")
    assert f"s3://{bucket}/db1" in made.stderr.decode()
    assert "has no versioning" in made.stderr.decode()
    volume = make_volume(program.name, {"backupd.enable": "true"})
    run_in_volume(volume, FILL)
    first, second = (program.json("backup", volume)[0] for _ in range(2))
    assert first["outcome"] == second["outcome"] == "ok"
    assert second["snapshot"]["bytes"]["stored"] == 0
    snapshot = second["snapshot"]["snapshot"]
    assert program.snapshots(volume) == [first["snapshot"]["snapshot"], snapshot]
    assert "./etc/motd" in program.run("show", snapshot).stdout.decode()
    copy = f"{program.name}-copy"
    try:
        program.run("restore", volume, "--to", copy, "--yes")
        assert run_in_volume(copy, LOOK) == run_in_volume(volume, LOOK)
    finally:
        with suppress(NotFound):
            engine.api.remove_volume(copy)
    assert {
        each["Key"].split("/")[0] for each in account.client.list_objects_v2(Bucket=bucket)["Contents"]
    } == {"db1"}
