"""How the value of a setting is written: durations, schedules, lists; nonsense is answered in words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr, StringConstraints

from backupd import cron, duration, treatment
from backupd.errors import ConfigError
from backupd.protection import group_name, http_address
from backupd.retention import Retention

T = TypeVar("T")


def _retention(value: object) -> Retention:
    if not isinstance(value, str):
        raise ValueError('should be text like "last=3 daily=7"')
    return _read(Retention.parse, value)


def _schedule(value: str) -> str:
    _read(lambda text: cron.parse(text, seed=""), value)
    return value


def _read(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ConfigError as error:
        raise ValueError("; ".join(filter(None, (error.message, error.hint)))) from error


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f'unknown time zone "{name}"') from error
    return name


def _patterns(value: object) -> object:
    if isinstance(value, str):
        return [pattern.strip() for pattern in value.split(",") if pattern.strip()]
    return value


def _endpoint(value: str) -> str:
    address = urlsplit(value)
    if address.scheme not in ("http", "https") or not address.hostname or address.username or address.query:
        raise ValueError('should be an address such as "https://s3.example.org"')
    return value


def _address(value: str) -> str:
    return _read(http_address, value)


def _secret_address(value: SecretStr) -> SecretStr:
    _address(value.get_secret_value())
    return value


def _addresses(value: object) -> object:
    """Addresses may hold commas: in text, white space and lines part them."""
    return value.split() if isinstance(value, str) else value


def _listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ValueError(
            'should be a port, or an address and a port, such as "127.0.0.1:9180" or "[::]:9180"'
        )
    return f"{host or '127.0.0.1'}:{port}"


def _storage_class(value: str) -> str:
    if value in ("GLACIER", "DEEP_ARCHIVE"):
        raise ValueError(f"{value} gives nothing back for hours, and backupd reads its objects every day")
    return value


def _words(value: object) -> object:
    """A list from text as it stands in a variable or in a file of recipients: commas, lines, comments."""
    if not isinstance(value, str):
        return value
    lines = [line for line in value.splitlines() if not line.lstrip().startswith("#")]
    return _patterns(",".join(lines))


def _recipient(text: str) -> str:
    from backupd.repository.encryption import age  # brings pyrage along, which most have no use for

    return _read(age.normalise, text)


def _group(value: str) -> str:
    return _read(group_name, value)


def lower(value: object) -> object:
    """Text in small letters."""
    return value.lower() if isinstance(value, str) else value


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    return _read(duration.parse, value)


def _seconds(value: object) -> object:
    return float(value.total_seconds()) if isinstance(value := _duration(value), timedelta) else value


def _command(value: object) -> object:
    return _read(treatment.command, json.dumps(value) if isinstance(value, list) else str(value))


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([0-9]{1,15})\s*(?:([kmgt])i?)?b?", value.strip().lower())
    if match is None:
        raise ValueError('should be a number of bytes, or with a unit, such as "512k", "64m" or "2g"')
    return int(match[1]) << _SIZE_SHIFTS[match[2]]


def _share(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%", value.strip())
    if match is None:
        raise ValueError('should be a share, such as "5%"')
    return float(match[1]) / 100


def _schedule_or_never(value: str) -> str | None:
    return None if value.strip().lower() in ("", "never") else _schedule(value)


_SIZE_SHIFTS = {None: 0, "k": 10, "m": 20, "g": 30, "t": 40}
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Cron = Annotated[str, AfterValidator(_schedule)]
CronOrNever = Annotated[str, AfterValidator(_schedule_or_never)]
Duration = Annotated[timedelta, BeforeValidator(_duration), Field(ge=timedelta(0))]
Size = Annotated[int, BeforeValidator(_size)]
Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
Command = Annotated[tuple[str, ...], BeforeValidator(_command)]
Zone = Annotated[str, AfterValidator(_zone)]
GroupName = Annotated[str, AfterValidator(_group)]
Patterns = Annotated[tuple[Text, ...], BeforeValidator(_patterns)]
Address = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_address)]
SecretAddress = Annotated[SecretStr, AfterValidator(_secret_address)]
Listen = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_listen)]
Addresses = Annotated[tuple[SecretStr, ...], BeforeValidator(_addresses)]
Endpoint = Annotated[Text, AfterValidator(_endpoint)]
StorageClass = Annotated[Text, AfterValidator(_storage_class)]
Recipients = Annotated[tuple[Annotated[Text, AfterValidator(_recipient)], ...], BeforeValidator(_words)]
RetentionText = Annotated[Retention, PlainValidator(_retention)]
