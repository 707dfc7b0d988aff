from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from backupd import logs


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Whether a person reads along."""
        return True


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Configuring the log changes the process; put it back."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("apscheduler", "docker", "urllib3"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    """What was written, one JSON object a line."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_line_has_event_fields_level_and_utc_time() -> None:
    """A fixed phrase, facts as keys, when and how grave."""
    stream = io.StringIO()
    logs.configure("auto", "info", stream)
    structlog.get_logger("backupd.test").info("backup finished", volume="pgdata", path=Path("/b"), bytes=3)
    (record,) = records(stream)
    time = datetime.fromisoformat(record.pop("timestamp"))
    assert time.tzinfo == UTC
    assert record == {
        "event": "backup finished",
        "volume": "pgdata",
        "path": "/b",
        "bytes": 3,
        "level": "info",
        "logger": "backupd.test",
    }


def test_record_of_a_library_takes_the_same_path() -> None:
    """What apscheduler says looks like what backupd says, and its chatter is left out."""
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    logging.getLogger("apscheduler.scheduler").info("added job")
    logging.getLogger("apscheduler.scheduler").warning("run of %s missed", "x")
    (record,) = records(stream)
    assert (record["event"], record["level"]) == ("run of x missed", "warning")
    assert record["logger"] == "apscheduler.scheduler"
    assert "timestamp" in record


def test_debug_lets_libraries_speak() -> None:
    """Whoever looks for a fault wants all of it."""
    stream = io.StringIO()
    logs.configure("json", "debug", stream)
    logging.getLogger("urllib3").debug("connection made")
    assert records(stream)[0]["event"] == "connection made"


def test_level_holds_for_own_records() -> None:
    """Below the level nothing is written."""
    stream = io.StringIO()
    logs.configure("json", "warning", stream)
    structlog.get_logger().info("backup finished")
    assert stream.getvalue() == ""


def test_second_configuration_replaces_the_first() -> None:
    """No record is written twice."""
    first, second = io.StringIO(), io.StringIO()
    logs.configure("json", "info", first)
    logs.configure("json", "info", second)
    structlog.get_logger().info("once")
    assert (first.getvalue(), len(records(second))) == ("", 1)


def test_bound_context_is_in_every_line() -> None:
    """Volume and snapshot are bound once per operation."""
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    with structlog.contextvars.bound_contextvars(volume="pgdata"):
        structlog.get_logger().info("backup started")
    assert records(stream)[0]["volume"] == "pgdata"


@pytest.mark.parametrize("form", ["json", "console"])
def test_traceback_shows_no_local_variables(form: Any) -> None:
    """I21: locals hold passwords; the lines of code are enough."""
    stream = Terminal()
    logs.configure(form, "info", stream)
    local = "".join(["hun", "ter2"])
    try:
        int(f"not a number, {len(local)} letters")
    except ValueError:
        structlog.get_logger().exception("backup failed")
    assert "Traceback" in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert local not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_is_named_like_a_secret_is_hidden(form: Any) -> None:
    """I21: as a field, inside a field, in driver options, in text and in the text of an error."""
    stream = io.StringIO()
    logs.configure(form, "info", stream)
    log = structlog.get_logger()
    log.info("a", password="hunter2", S3_SECRET="hunter2", api_key="hunter2", key="chunks/ab")
    log.info("b", options={"o": "username=me,password=hunter2,vers=3", "auth": {"token": "hunter2"}})
    try:
        raise RuntimeError("mount failed: password=hunter2")
    except RuntimeError:
        logging.getLogger("library").exception("token=hunter2 refused")
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("[hidden]") >= 7
    assert "username=me" in stream.getvalue()
    assert "chunks/ab" in stream.getvalue()


def test_terminal_gets_coloured_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is for people where people are; NO_COLOR is respected."""
    stream = Terminal()
    logs.configure("auto", "info", stream)
    structlog.get_logger().info("backup finished", volume="pgdata")
    assert "\x1b[" in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    logs.configure("auto", "info", plain)
    structlog.get_logger().info("backup finished", volume="pgdata")
    assert "\x1b[" not in plain.getvalue()
    assert "volume=pgdata" in plain.getvalue()


def test_console_without_a_terminal_has_no_colours() -> None:
    """Text that goes into a file stays readable."""
    stream = io.StringIO()
    logs.configure("console", "info", stream)
    structlog.get_logger().info("backup finished")
    assert "backup finished" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()


def test_json_is_kept_on_a_terminal_when_asked_for() -> None:
    """The setting wins over the guess."""
    stream = Terminal()
    logs.configure("json", "info", stream)
    structlog.get_logger().info("backup finished")
    assert records(stream)[0]["event"] == "backup finished"
