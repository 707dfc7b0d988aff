"""The command line as far as it goes without an engine: words, help, exit codes, what is printed where."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import backupd
from backupd.cli import main
from backupd.cli.output import print_table
from backupd.cli.parser import build_parser, moment
from backupd.cli.words import relative, size
from backupd.operations.lock import volume_lock
from backupd.repository import Repository
from backupd.storage.local import LocalStorage
from tests.keys import age_pair
from tests.streams import noise, save, tar_of

COMMANDS = (
    "run", "init", "volumes", "backup", "snapshots", "show", "restore", "export", "verify", "forget", "prune",
)  # fmt: skip
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for the repository that nothing is in yet, and no other settings."""
    monkeypatch.setenv("BACKUPD_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("BACKUPD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("BACKUPD_CONFIG", raising=False)
    return tmp_path / "storage"


def test_no_command_prints_the_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """`backupd` alone shows what there is and exits with 2."""
    assert main([]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert all(command in told.err for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` shows examples, each of which the parser understands."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    examples = [line.strip() for line in text.split("examples:\n")[1].splitlines()]
    assert any(f"backupd {command}" in example for example in examples)
    assert all(len(line) <= 100 for line in text.splitlines())


def test_examples_of_the_help_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    """What the help shows as examples is understood by the parser."""
    import shlex

    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        for line in capsys.readouterr().out.split("examples:\n")[1].splitlines():
            words = shlex.split(line.split("|")[0])
            words = words[words.index("backupd") + 1 :] if words else [command]
            assert build_parser().parse_args(words).command == command or not line.strip()


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the version and exits with 0."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"backupd {backupd.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"],
        ["snapshots", "--frobnicate"],
        ["restore", "db", "--at", "yesterdayish"],
        ["restore", "db", "--at", "2026-11-23", "--snapshot", "2026"],
        ["restore"],
        ["restore", "db", "--project", "shop"],
        ["restore", "--project", "shop", "--to", "new"],
        ["backup"],
        ["backup", "db", "--all"],
        ["forget", "db", "--keep", "last=0"],
        ["forget", "db", "--snapshot", "2026"],
        ["forget", "db", "--even-last"],
        ["forget", "--accept-collapse"],
        ["forget", "db", "--accept-collapse", "--dry-run"],
        ["forget", "--host", "elsewhere", "--keep", "last=1"],
        ["forget", "db", "--host", "elsewhere"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error says what is wrong and where to look, and no traceback."""
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    first, second = told.err.splitlines()
    assert first.startswith("backupd: ")
    assert second.startswith("hint: ")


def test_storage_that_is_not_there_is_said_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """I19: a missing directory is an error, it is not made on the way."""
    assert main(["snapshots"]) == 1
    assert capsys.readouterr().err.startswith("backupd: ")


def test_empty_directory_is_not_taken_for_a_repository(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """I19: an empty mount point is refused, and the hint names `backupd init`."""
    storage.mkdir()
    assert main(["snapshots"]) == 1
    assert "backupd init" in capsys.readouterr().err
    assert list(storage.iterdir()) == []


def test_init_makes_a_repository_once(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """I19: `init` makes a repository, a second one is refused."""
    assert main(["init"]) == 0
    assert (storage / "backupd.json").exists()
    assert main(["init"]) == 1
    assert "already" in capsys.readouterr().err


def test_init_makes_an_encrypted_repository_and_says_where_its_key_is(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """I21: the path of the id_key and what to do with it, not the key; a bad recipient makes nothing."""
    monkeypatch.setenv("BACKUPD_ENCRYPTION__RECIPIENTS", "age1nonsense")
    assert main(["init"]) == 2
    assert "age1nonsense" in capsys.readouterr().err
    assert not storage.exists()
    monkeypatch.setenv("BACKUPD_ENCRYPTION__RECIPIENTS", age_pair(tmp_path).recipient)
    assert main(["init"]) == 0
    told = capsys.readouterr().err
    id_key = tmp_path / "state" / "id_key"
    assert str(id_key) in told
    assert "another host" in told
    assert id_key.read_text().strip() not in told
    assert main(["snapshots"]) == 0


def test_a_repository_that_is_not_encrypted_needs_no_cipher(storage: Path) -> None:
    """What only some need is loaded by them alone."""
    assert main(["init"]) == 0
    program = (
        "import sys\n"
        "from backupd.cli import main\n"
        "assert main(['snapshots']) == 0\n"
        "assert not {'pyrage', 'cryptography'} & {*sys.modules}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_json_is_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json` standard output is one JSON value."""
    assert main(["init", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"storage", "id", "warnings"}
    assert main(["snapshots", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_json_error_is_json_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json` an error is JSON as well: message, hint and exit code."""
    assert main(["init"]) == 0
    capsys.readouterr()
    assert main(["show", "2026", "--json"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert json.loads(told.err)["exit_code"] == 1


def test_unknown_snapshot_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A volume or snapshot that the repository does not have is an error, not an empty list."""
    assert main(["init"]) == 0
    assert main(["snapshots", "db"]) == 1
    assert main(["export", "2026"]) == 1


def test_config_file_that_is_missing_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """`--config` may stand before or after the command; a file that is not there is refused."""
    assert main(["--config", "/nowhere.toml", "snapshots"]) == 2
    assert main(["snapshots", "--config", "/nowhere.toml"]) == 2
    assert capsys.readouterr().err.count("/nowhere.toml") == 2


def test_reader_that_leaves_early_gets_no_traceback(storage: Path) -> None:
    """`backupd snapshots | head` ends quietly when head has seen enough."""
    assert main(["init"]) == 0
    command = [sys.executable, "-m", "backupd", "snapshots", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert b"Traceback" not in process.stderr.read()
        assert process.wait() == 1


def test_help_loads_neither_docker_nor_rich() -> None:
    """The help starts fast: what takes long to load is loaded by the commands that need it."""
    program = (
        "import sys\n"
        "from backupd.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "assert not {'docker', 'rich', 'pydantic', 'apscheduler', 'structlog'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_volume_in_use_by_another_run_names_it(tmp_path: Path) -> None:
    """A second run on a volume is refused, naming the process that works on it."""
    from backupd.errors import Locked

    with volume_lock(tmp_path, "db"):
        with pytest.raises(Locked, match=r"volume db is in use by pid \d+ on "), volume_lock(tmp_path, "db"):
            pass
        with volume_lock(tmp_path, "files"):
            pass
    with volume_lock(tmp_path, "db"):
        pass


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (250 * 1024, "250 KiB"), (5 << 40, "5.0 TiB")],
)
def test_sizes_read_well(count: int, text: str) -> None:
    """Sizes are binary and short."""
    assert size(count) == text


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        (timedelta(seconds=-5), "5 s ago"),
        (timedelta(minutes=-90), "1 h ago"),
        (timedelta(hours=50), "in 2 d"),
        (timedelta(0), "0 s ago"),
    ],
)
def test_times_read_well(delta: timedelta, text: str) -> None:
    """Times are told as seen from now."""
    assert relative(NOW + delta, NOW) == text


def test_date_alone_is_the_end_of_the_day() -> None:
    """`--at 2026-11-23` takes that day's last snapshot; a time with a zone is that very moment."""
    end = moment("2026-11-23")
    assert (end.date().isoformat(), end.hour, end.minute) == ("2026-11-23", 23, 59)
    assert moment("2026-11-23T14:30:00Z") == datetime(2026, 11, 23, 14, 30, tzinfo=UTC)


def test_prune_frees_what_no_snapshot_names(
    storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan first, then a confirmation, then packs are gone; in JSON as well."""
    assert main(["init"]) == 0
    with LocalStorage(storage) as opened:
        repository = Repository.open(opened)
        forgotten = save(repository, tar_of({"./a": noise(700_000)}))
        opened.delete(forgotten.key)
    capsys.readouterr()
    assert main(["prune", "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["delete"]["packs"] == 0
    assert planned["condemn"]["bytes"] > 700_000
    assert main(["prune"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert main(["prune", "--yes"]) == 0
    assert "not before" in capsys.readouterr().err
    monkeypatch.setenv("BACKUPD_PRUNE__GRACE", "0s")
    assert main(["prune", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deleted"] == planned["condemn"]
    assert not list(storage.glob("packs/**/*.pack"))


def test_verify_tells_damage_and_exits_with_4(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R4: whole, then a bit flipped; the file that it hits is named, for people and for machines."""
    with LocalStorage.create(storage) as local:
        manifest = save(
            Repository.init(local), tar_of({"./a": noise(300_000), "./b\n": noise(300_000, seed=2)})
        )
    assert main(["verify", "--read-data"]) == 0
    assert "all is well" in capsys.readouterr().out
    with LocalStorage(storage) as local:
        reader = Repository.open(local).reader(manifest)
        entry = list(reader.members())[-1]
        hit = list(reader.slices())[entry.last]
    content = bytearray((storage / hit.pack).read_bytes())
    content[hit.offset + 1000] ^= 1
    (storage / hit.pack).write_bytes(content)
    assert main(["verify", "--read-data=100%"]) == 4
    told = capsys.readouterr()
    assert f"data {manifest.snapshot}: {hit} is damaged" in told.out
    assert "    ./b\\n\n" in told.out
    assert "1 damaged pack is marked" in told.err
    assert main(["verify", "data", "--json"]) == 4
    report = json.loads(capsys.readouterr().out)
    assert [(each["object"], each["paths"]) for each in report["findings"]] == [(hit.pack, ["./b\\n"])]
    assert (report["snapshots"], report["marked"], report["unmarked"]) == (1, 0, None)


def test_verify_works_where_the_state_directory_does_not(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cache is done without; that a part of the data is not remembered is told. So with `snapshots`."""
    with LocalStorage.create(storage) as local:
        save(Repository.init(local), tar_of({"./a": b"1"}))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BACKUPD_STATE_DIR", str(tmp_path / "file" / "state"))
    assert main(["verify", "--read-data=5%", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["findings"] == []
    assert "not remembered" in told.err
    assert main(["snapshots", "--json"]) == 0
    told = capsys.readouterr()
    assert len(json.loads(told.out)) == 1
    assert told.err == ""


def test_commands_that_ask_nothing_of_the_engine_do_not_load_docker() -> None:
    """It takes as long to load as all else together."""
    verbs = ("export", "prune", "show", "snapshots", "status", "verify")
    code = (
        f"import sys, {', '.join(f'backupd.cli.{verb}' for verb in verbs)}; sys.exit('docker' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("text", ["0%", "101%", "5", "-1%", "volume", "%"])
def test_a_share_that_makes_no_sense_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With how to write one."""
    assert main(["verify", f"--read-data={text}"]) == 2
    assert "--read-data=5%" in capsys.readouterr().err


def test_a_table_in_a_pipe_has_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """For grep and awk: columns are aligned, lines whole, and nothing in a cell moves the cursor."""
    print_table(
        ("NAME", "SIZE"), [("a", "1 KiB"), ("b" * 300, "20 KiB"), ("\x1b[2J", "3 B")], right=("SIZE",)
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "NAME" + " " * 298 + "  SIZE"
    assert lines[2] == "a" + " " * 302 + "1 KiB"
    assert lines[3] == "b" * 300 + "  20 KiB"
    assert lines[4].startswith("�[2J")
