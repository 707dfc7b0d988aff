"""What a daemon that runs takes over from new settings."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from backupd.reload import FIXED, reloaded
from backupd.settings import Settings, load

SECRETS = {"BACKUPD_S3__ACCESS_KEY": "id", "BACKUPD_S3__SECRET_KEY": "before"}


def settings(tmp_path: Path, text: str = "", environ: dict[str, str] | None = None) -> Settings:
    """What a file of that text says."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load(path, environ or {})


def test_what_may_change_does(tmp_path: Path) -> None:
    """Schedules, rules, limits and how much at once hold from now on."""
    now = settings(tmp_path)
    text = 'concurrency = 7\njitter = "1h"\n[limits]\nread = "1m"\n[[volume]]\nmatch = "*"\nenable = true\n'
    change = reloaded(now, settings(tmp_path, text))
    assert set(change.changed) == {"concurrency", "jitter", "limits.read", "volume"}
    assert change.restart == ()
    assert (change.settings.concurrency, change.settings.jitter) == (7, timedelta(hours=1))
    assert change.settings.limits.read == 1 << 20
    assert [rule.match for rule in change.settings.rules] == ["*"]


def test_what_needs_a_restart_stays_and_is_named(tmp_path: Path) -> None:
    """A run must not begin in one repository and end in another; the rest of the file holds."""
    now = settings(tmp_path, 'storage = "/one"\n[s3]\nendpoint = "https://one.example.org"\n')
    text = 'storage = "/two"\nconcurrency = 5\n[s3]\nendpoint = "https://two.example.org"\nconnections = 3\n'
    change = reloaded(now, settings(tmp_path, text))
    assert set(change.restart) == {"storage", "s3.endpoint"}
    assert set(change.changed) == {"concurrency", "s3.connections"}
    assert change.settings.storage == "/one"
    assert change.settings.s3.endpoint == "https://one.example.org"
    assert (change.settings.concurrency, change.settings.s3.connections) == (5, 3)


def test_new_keys_of_the_storage_hold(tmp_path: Path) -> None:
    """Keys that are rotated need no restart, and their values are not in what is told."""
    now = settings(tmp_path, environ=SECRETS)
    change = reloaded(now, settings(tmp_path, environ=SECRETS | {"BACKUPD_S3__SECRET_KEY": "after"}))
    assert change.changed == ("s3.secret_key",)
    assert change.restart == ()
    assert change.settings.s3.options.secret_key == "after"


def test_same_settings_change_nothing(tmp_path: Path) -> None:
    """A second SIGHUP has nothing to say."""
    change = reloaded(settings(tmp_path), settings(tmp_path))
    assert (change.changed, change.restart) == ((), ())


def test_what_is_said_to_be_fixed_exists() -> None:
    """A name that is misspelt here would change under a run."""
    for name in FIXED:
        section, _, inner = name.rpartition(".")
        model = Settings.model_fields[section].annotation if section else Settings
        assert inner in model.model_fields, name  # type: ignore[union-attr]
