from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from backupd.errors import ConfigError
from backupd.protection import Policy, Rule
from backupd.retention import Retention
from backupd.settings import RuleSettings, Settings, load
from backupd.storage.s3options import S3Options

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration file without content."""
    path = tmp_path / "config.toml"
    path.touch()
    return path


def refused(config: Path | None, environ: Mapping[str, str] | None = None) -> ConfigError:
    """The error of settings that must not load."""
    with pytest.raises(ConfigError) as caught:
        load(config, environ or {})
    return caught.value


def test_nothing_set_gives_the_defaults(config: Path) -> None:
    """Zero configuration works."""
    settings = load(config, {"PATH": "/bin"})
    assert settings == Settings()
    assert settings.storage == "/backups"
    assert settings.host == socket.gethostname()
    assert settings.instance is None
    assert settings.fifo_dir == Path("/var/lib/backupd/fifo")
    assert settings.rules == ()
    retention = Retention(last=3, daily=7, weekly=4, monthly=12)
    assert settings.defaults == Policy("@daily", "pause", (), retention)


def test_command_line_wins_over_environment_over_file(config: Path) -> None:
    """Each key by itself comes from the nearest place that sets it."""
    config.write_text('storage = "/file"\nhost = "file"\n[log]\nlevel = "error"\nformat = "json"\n')
    environ = {"BACKUPD_HOST": "environment", "BACKUPD_LOG__LEVEL": "WARNING"}
    settings = load(config, environ, {"log.level": "debug", "storage": None})
    assert (settings.storage, settings.host) == ("/file", "environment")
    assert (settings.log.level, settings.log.format) == ("debug", "json")


def test_environment_reaches_every_setting_but_the_rules(config: Path) -> None:
    """Values are read from text."""
    environ = {
        "BACKUPD_CONCURRENCY": "3",
        "BACKUPD_DEFAULT__RETENTION": "last=1",
        "BACKUPD_DEFAULT__EXCLUDE": "*.tmp, cache/*",
        "BACKUPD_HELPER__FIFO_DIR": "/run/fifo",
    }
    settings = load(config, environ)
    assert settings.concurrency == 3
    assert settings.defaults.retention == Retention(last=1)
    assert settings.defaults.exclude == ("*.tmp", "cache/*")
    assert settings.fifo_dir == Path("/run/fifo")


def test_variable_that_ends_in_file_reads_the_value_from_there(config: Path, tmp_path: Path) -> None:
    """`_FILE`, as images of databases have it; the last newline does not count."""
    (tmp_path / "image").write_text("tar:1\n")
    settings = load(config, {"BACKUPD_HELPER__IMAGE_FILE": str(tmp_path / "image")})
    assert settings.helper.image == "tar:1"


def test_variable_and_its_file_together_are_refused(config: Path) -> None:
    """Which of the two is meant cannot be known."""
    error = refused(config, {"BACKUPD_HOST": "a", "BACKUPD_HOST_FILE": "/b"})
    assert error.message == "BACKUPD_HOST and BACKUPD_HOST_FILE are both set"


def test_file_of_a_variable_that_cannot_be_read_is_named(config: Path, tmp_path: Path) -> None:
    """The variable and the path are said."""
    error = refused(config, {"BACKUPD_HOST_FILE": str(tmp_path / "gone")})
    assert error.message == f"BACKUPD_HOST_FILE: cannot read {tmp_path / 'gone'}: No such file or directory"


def test_named_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    """A typing error in --config or BACKUPD_CONFIG must not mean the defaults."""
    for error in (refused(tmp_path / "x.toml"), refused(None, {"BACKUPD_CONFIG": str(tmp_path / "x.toml")})):
        assert error.message.startswith(f"cannot read {tmp_path / 'x.toml'}")


def test_variable_names_the_file(config: Path) -> None:
    """BACKUPD_CONFIG stands in for --config."""
    config.write_text('host = "db1"')
    assert load(None, {"BACKUPD_CONFIG": str(config)}).host == "db1"


def test_file_that_is_not_toml_is_refused(config: Path) -> None:
    """The file and the place in it are said."""
    config.write_text("storage = \n")
    assert re.search(r"config.toml is not TOML: .*line 1", refused(config).message)


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ('storag = "/x"', "storag", "storage"),
        ('[helpr]\nimage = "x"', "helpr", "helper"),
        ('[helper]\nimgae = "x"', "helper.imgae", "helper.image"),
        ('[[volume]]\nmatch = "*"\nretentoin = "last=1"', "volume.0.retentoin", "retention"),
    ],
)
def test_unknown_key_in_the_file_is_refused(config: Path, text: str, key: str, near: str) -> None:
    """I1: named, with the nearest known one."""
    config.write_text(text)
    error = refused(config)
    assert error.message == f"{config}: unknown setting {key}"
    assert error.hint == f"did you mean {near}?"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("BACKUPD_STORAG", "BACKUPD_STORAGE"),
        ("BACKUPD_HELPER_IMAGE", "BACKUPD_HELPER__IMAGE"),
        ("BACKUPD_LOG__LEVLE", "BACKUPD_LOG__LEVEL"),
        ("BACKUPD_HOTS_FILE", "BACKUPD_HOST"),
    ],
)
def test_unknown_variable_is_refused(config: Path, name: str, near: str) -> None:
    """I1: also at the top level, where it would be easy to pass over."""
    error = refused(config, {name: "x"})
    assert error.message == f"unknown environment variable {name}"
    assert error.hint == f"did you mean {near}?"


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("BACKUPD_STORAGE", " ", "should have at least 1 character"),  # I19
        ("BACKUPD_HOST", "a/b", "should match pattern"),
        ("BACKUPD_CONCURRENCY", "0", "greater than or equal to 1"),
        ("BACKUPD_CONCURRENCY", "two", "valid integer"),
        ("BACKUPD_TIMEZONE", "Europe/Berlim", 'unknown time zone "Europe/Berlim"'),
        ("BACKUPD_TIMEZONE", "Europe", 'unknown time zone "Europe"'),
        ("BACKUPD_TIMEZONE", "../zone", 'unknown time zone "../zone"'),
        ("BACKUPD_DEFAULT__SCHEDULE", "31 2 30 2 *", '"31 2 30 2 *" never fires'),
        ("BACKUPD_DEFAULT__RETENTION", "last=0", "last must be a number above zero"),  # I3
        ("BACKUPD_DEFAULT__QUIESCE", "freeze", "should be 'none', 'pause' or 'stop'"),
        ("BACKUPD_LOG__LEVEL", "loud", "should be 'debug'"),
    ],
)
def test_bad_value_names_variable_and_key(config: Path, name: str, value: str, wrong: str) -> None:
    """I2, I3, I19: where it stands, what it is for, and what is wrong with it."""
    message = refused(config, {name: value}).message
    key = name.removeprefix("BACKUPD_").lower().replace("__", ".")
    assert message.startswith(f"{name}: {key}: ")
    assert wrong in message


def test_bad_values_in_the_file_are_all_told(config: Path) -> None:
    """I2: with the file's name, the expression, and the number of the rule."""
    config.write_text('concurrency = 0\n[[volume]]\nmatch = "*"\nschedule = "x"\n[[volume]]\nenable = true\n')
    message = refused(config).message
    assert f"{config}: concurrency: " in message
    assert f'{config}: volume.0.schedule: "x" is no cron expression' in message
    assert f"{config}: volume.1.match: field required" in message


def test_bad_value_that_could_be_a_secret_is_not_repeated(config: Path) -> None:
    """I21: an address with a password in it stays out of the error, and out of what caused it."""
    config.write_text('docker_host = ["tcp://user:hunter2@host"]\n')
    error = refused(config)
    assert "docker_host" in error.message
    assert "hunter2" not in f"{error!r} {error.hint} {error.__cause__!r} {error.__context__}"


AGE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGgr9KXK6DwcN4CK9zqlsbnMkOFUlLCcAVuTHAfkRsBB"


def test_recipients_come_as_a_list_or_as_text(config: Path, tmp_path: Path) -> None:
    """In the file, in a variable, in a file of recipients as age has them; comments of ssh keys fall away."""
    config.write_text(f'[encryption]\nrecipients = ["{AGE}", "{SSH} me@host"]\n')
    recipients = tmp_path / "recipients"
    recipients.write_text(f"# the office\n{AGE}\n\n{SSH} me@host\n")
    for environ in (
        {},
        {"BACKUPD_ENCRYPTION__RECIPIENTS": f"{AGE},{SSH}"},
        {"BACKUPD_ENCRYPTION__RECIPIENTS_FILE": str(recipients)},
    ):
        assert load(config, environ).keys.recipients == (AGE, SSH)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("age1qqqq", True),
        (AGE[:-1], True),
        ("ssh-ed25519 AAAA", True),
        ("ecdsa-sha2-nistp256 AAAA", False),
        ("hunter2", False),
        ("AGE-SECRET-KEY-1C99FH9L555DCAAWTAWDGSN9CTG50YQKP67FMU0SD9AQF3YYN5LJSQD9QWS", False),
    ],
)
def test_bad_recipient_is_named_unless_it_may_be_secret(config: Path, value: str, shown: bool) -> None:
    """I21: with the way out; a secret key in the place of a public one is not repeated."""
    error = refused(config, {"BACKUPD_ENCRYPTION__RECIPIENTS": f"{AGE},{value}"})
    assert "BACKUPD_ENCRYPTION__RECIPIENTS: encryption.recipients.1: " in error.message
    assert "age-keygen" in error.message
    assert (value in error.message) == shown
    assert (value in f"{error!r} {error.hint} {error.__cause__!r} {error.__context__!r}") == shown


def test_passphrase_itself_is_no_setting(config: Path) -> None:
    """I21: a variable's value is in `docker inspect`; the error says which one names a file instead."""
    error = refused(config, {"BACKUPD_ENCRYPTION__PASSPHRASE": "hunter2"})
    assert "BACKUPD_ENCRYPTION__PASSPHRASE_FILE" in str(error.hint)
    assert "hunter2" not in f"{error!r} {error.hint}"
    assert load(
        config, {"BACKUPD_ENCRYPTION__PASSPHRASE_FILE": "/run/secrets/p"}
    ).keys.passphrase_file == Path("/run/secrets/p")


def test_id_key_is_in_the_state_directory(config: Path) -> None:
    """Unless it is said where."""
    assert load(config, {"BACKUPD_STATE_DIR": "/s"}).keys.id_key_file == Path("/s/id_key")
    assert load(config, {"BACKUPD_ENCRYPTION__ID_KEY_FILE": "/k"}).keys.id_key_file == Path("/k")


def test_settings_cannot_be_changed(config: Path) -> None:
    """Whoever has read them once may rely on them."""
    with pytest.raises(ValueError, match="frozen"):
        load(config, {}).storage = "/elsewhere"


def test_rules_keep_the_order_of_the_file(config: Path) -> None:
    """The first that matches holds, so order is meaning."""
    config.write_text(
        '[[volume]]\nmatch = "b*"\nenable = true\n[[volume]]\nmatch = "*"\nschedule = "@weekly"\n'
    )
    assert load(config, {}).rules == (Rule("b*", enable=True), Rule("*", schedule="@weekly"))


def test_example_loads_as_it_is_and_changes_nothing() -> None:
    """What one gets by copying the example is the defaults."""
    assert load(EXAMPLE, {}) == Settings()


def test_example_shows_every_setting_with_its_default(tmp_path: Path) -> None:
    """With all settings uncommented the example has every field, no other, and the defaults."""
    lines = re.findall(r"^# (\[.*\]|[a-z_]+ = .*)$", EXAMPLE.read_text(), re.MULTILINE)
    config = tmp_path / "config.toml"
    config.write_text("\n".join(lines))
    shown = tomllib.loads(config.read_text())
    settings = load(config, {})
    assert set(shown) == set(Settings.model_fields)
    assert set(shown["volume"][0]) == set(RuleSettings.model_fields)
    for section in ("helper", "default", "encryption", "forget", "prune", "quiesce", "log"):
        assert set(shown[section]) == set(type(getattr(settings, section)).model_fields)
    for section in ("default", "forget", "prune", "quiesce", "log"):
        assert getattr(settings, section) == getattr(Settings(), section)
    for key in ("storage", "state_dir", "concurrency", "fifo_dir"):
        assert getattr(settings, key) == getattr(Settings(), key)


def test_keys_of_s3_come_from_files_and_are_never_shown(config: Path, tmp_path: Path) -> None:
    """I21: not in a representation, and not in the error of a value beside them."""
    (tmp_path / "secret").write_text("very-secret\n")
    environ = {"BACKUPD_S3__ACCESS_KEY": "AK", "BACKUPD_S3__SECRET_KEY_FILE": str(tmp_path / "secret")}
    settings = load(config, environ | {"BACKUPD_S3__PATH_STYLE": "true"})
    assert settings.s3.options == S3Options(access_key="AK", secret_key="very-secret", path_style=True)
    assert "very-secret" not in f"{settings!r} {settings.s3.options!r}"
    error = refused(config, environ | {"BACKUPD_S3__SSE_KEY_ID": "k"})
    assert "sse_key_id belongs to" in error.message
    assert "very-secret" not in f"{error.message} {error.hint}"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('access_key = "AK"', "belong together"),
        ('secret_key = "S"', "belong together"),
        ('endpoint = "s3.example.org"', "should be an address"),
        ('endpoint = "https://me:pw@s3.example.org"', "should be an address"),
        ('storage_class = "DEEP_ARCHIVE"', "hours"),
        ('sse = "AES128"', "aws:kms"),
        ("connections = 0", "greater than or equal to 1"),
        ('bucket = "b"', "unknown setting s3.bucket"),
    ],
)
def test_settings_of_s3_that_make_no_sense_are_refused(config: Path, toml: str, said: str) -> None:
    """Before anything is asked of a server."""
    config.write_text(f"[s3]\n{toml}\n")
    assert said in refused(config).message


@pytest.mark.parametrize(
    ("text", "duration"),
    [("0s", timedelta(0)), ("90s", timedelta(seconds=90)), ("30m", timedelta(minutes=30)),
     ("24H", timedelta(hours=24)), (" 7 d ", timedelta(days=7))],
)  # fmt: skip
def test_a_duration_is_a_number_with_its_unit(config: Path, text: str, duration: timedelta) -> None:
    """Seconds, minutes, hours, days."""
    assert load(config, {"BACKUPD_PRUNE__GRACE": text}).prune.grace == duration


@pytest.mark.parametrize("text", ["", "5", "1w", "-1h", "1.5h", "24h 5m"])
def test_what_is_no_duration_is_refused(config: Path, text: str) -> None:
    """A number alone could be anything; the error shows how to write it."""
    error = refused(config, {"BACKUPD_PRUNE__GRACE": text})
    assert "BACKUPD_PRUNE__GRACE" in error.message
    assert "24h" in error.message


@pytest.mark.parametrize("text", ["never", "", "Never"])
def test_a_prune_can_be_left_to_another_host(config: Path, text: str) -> None:
    """For hosts that may put and not delete."""
    assert load(config, {"BACKUPD_PRUNE__SCHEDULE": text}).prune.schedule is None
    assert load(config, {}).prune.schedule == "@weekly"


def test_a_prunes_schedule_is_checked(config: Path) -> None:
    """I2."""
    assert "cron" in refused(config, {"BACKUPD_PRUNE__SCHEDULE": "sometimes"}).message
