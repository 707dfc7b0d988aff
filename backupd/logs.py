"""How backupd logs: its own records and those of its libraries, on one path."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_LIBRARIES = ("apscheduler", "docker", "urllib3", "uvicorn")
_SECRET_NAME = re.compile(r"(password|passwd|passphrase|token|secret|[_-]key)$", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"\b((?:password|passwd|passphrase|token|secret)=)[^\s,;&\"']+", re.IGNORECASE)
_HIDDEN = "[hidden]"


def configure(
    format: Literal["auto", "json", "console"],  # noqa: A002 - the setting's name
    level: Literal["debug", "info", "warning", "error"],
    stream: TextIO,
) -> None:
    """Send every log record of this process to a stream: as JSON lines, or as text for people.

    `auto` is text on a terminal and JSON elsewhere. Times are ISO 8601 in UTC, tracebacks show no local
    variables, and what is named like a secret is hidden. Libraries are heard from warnings on, unless the
    level is debug. A second call replaces the first.
    """
    terminal = stream.isatty()
    console = format == "console" or (format == "auto" and terminal)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(console=console, colors=terminal and not os.environ.get("NO_COLOR")))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _formatter(*, console: bool, colors: bool) -> logging.Formatter:
    renderer: Processor
    if console:
        renderer = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )
    else:
        renderer = structlog.processors.JSONRenderer(default=str)
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _redact,
            renderer,
        ]
    )


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: _hide(name, value) for name, value in event.items()}


def _hide(name: str, value: object) -> object:
    if _SECRET_NAME.search(name):
        return _HIDDEN
    if isinstance(value, Mapping):
        return {str(inner): _hide(str(inner), of) for inner, of in value.items()}
    if isinstance(value, str):
        return _SECRET_TEXT.sub(rf"\1{_HIDDEN}", value)
    return value
