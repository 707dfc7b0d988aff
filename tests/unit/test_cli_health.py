from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path

import pytest

from backupd.cli import main
from backupd.cli.health import state_dir
from backupd.health import Watched
from backupd.observer import Observer, answering, observing
from backupd.settings import load
from tests.listener import listening
from tests.unit.records import watched

SECRET = "very-secret-part"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A settings file with a state directory of its own."""
    (tmp_path / "state").mkdir()
    path = tmp_path / "config.toml"
    path.write_text(f'state_dir = "{tmp_path / "state"}"\nhost = "db1"\n')
    return path


@contextmanager
def daemon(config: Path) -> Iterator[Observer]:
    """What answers in a daemon."""
    settings = load(config, {})
    with observing(settings, UTC) as observer, answering(settings, observer):
        observer.saw([watched(schedule="0 2 1 1 *")])
        yield observer


def command(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command as a process of its own."""
    words = ("-m", "backupd", "--config", str(config), *words)
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=120)


def test_health_is_zero_when_all_is_well(config: Path) -> None:
    """What HEALTHCHECK asks for."""
    with daemon(config):
        done = command(config, "health")
        assert (done.returncode, done.stdout, done.stderr) == (0, "ok: 1 volume protected\n", "")
        done = command(config, "health", "--json")
        assert json.loads(done.stdout) == {"ok": True, "protected": 1, "problems": []}


def test_health_names_every_reason_and_what_to_do(config: Path) -> None:
    """S5: exit code 1."""
    with daemon(config) as observer:
        observer.saw([Watched("shop", None, ('"x" is no cron expression',))])
        done = command(config, "health")
        assert done.returncode == 1
        assert done.stdout == (
            'shop: not backed up: "x" is no cron expression\n'
            "    what to do: correct the label or rule; `backupd volumes` shows what holds for each volume\n"
        )
        assert json.loads(command(config, "health", "--json").stdout)["problems"][0]["volume"] == "shop"


def test_health_without_a_daemon_is_red(config: Path) -> None:
    """S5: nobody backs anything up."""
    done = command(config, "health")
    assert done.returncode == 1
    assert done.stdout.startswith("the daemon does not answer on ")
    assert "is `backupd run` running" in done.stdout
    problem = json.loads(command(config, "health", "--json").stdout)["problems"][0]
    assert problem["kind"] == "daemon"


def test_health_brings_next_to_nothing_along(config: Path) -> None:
    """It is called every few seconds: no settings, no engine, no storage, no server."""
    script = (
        "import sys; from backupd.cli import main; main(sys.argv[1:])\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--config", str(config), "health"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    heavy = {
        "pydantic",
        "docker",
        "boto3",
        "starlette",
        "uvicorn",
        "structlog",
        "rich",
        "apscheduler",
        "asyncio",
    }
    assert not loaded & heavy


@pytest.mark.parametrize("variables", [{}, {"BACKUPD_STATE_DIR": "/a"}, {"BACKUPD_STATE_DIR_FILE": "FILE"},
                                       {"BACKUPD_CONFIG": "CONFIG"}])  # fmt: skip
def test_health_finds_the_state_directory_as_everybody_does(config: Path, variables: dict[str, str]) -> None:
    """File, variable, and the file that a variable names."""
    (config.parent / "file").write_text("/b\n")
    places = {"FILE": str(config.parent / "file"), "CONFIG": str(config)}
    environ = {name: places.get(value, value) for name, value in variables.items()}
    for given in (config, None):
        if given is None and not variables:
            continue  # what lies in /etc is this machine's
        assert state_dir(given, environ) == load(given, environ).state_dir


def test_a_settings_file_that_is_missing_is_a_wrong_call(tmp_path: Path) -> None:
    """Not the answer that all is lost."""
    done = command(tmp_path / "gone.toml", "health")
    assert done.returncode == 2
    assert "gone.toml" in done.stderr


def test_notify_sends_a_test_to_every_channel(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And says what became of each; exit code 1 if one did not arrive, and no address anywhere."""
    with listening() as listener:
        listener.answers = [200, 404]
        hook, ping = f"{listener.url}/{SECRET}", f"{listener.url}/p/{SECRET}"
        config.write_text(f'host = "db1"\n[notify]\nwebhook = "{hook}"\nping = "{ping}"\n')
        assert main(["--config", str(config), "notify", "--test", "--json"]) == 1
        said = capsys.readouterr()
        assert json.loads(said.out) == [
            {"channel": "webhook", "delivered": True, "error": None},
            {"channel": "ping", "delivered": False, "error": "127.0.0.1 answered 404"},
        ]
        assert "not delivered: ping" in said.err
        assert SECRET not in said.out + said.err
        assert main(["--config", str(config), "notify", "--test"]) == 0
        hooked, pinged, *_ = listener.wait_for(4)
        assert json.loads(hooked.body)["kind"] == "test"
        assert pinged.path == f"/p/{SECRET}"


def test_notify_without_a_channel_says_how_to_have_one(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A test that sends nothing must not look like one that succeeded."""
    assert main(["--config", str(config), "notify", "--test"]) == 2
    assert "set notify.webhook" in capsys.readouterr().err
