"""What backupd is told: a TOML file, overruled by environment variables, overruled by the command line."""

from __future__ import annotations

import difflib
import re
import socket
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from backupd import cron
from backupd.errors import ConfigError
from backupd.repository.keys import Keys
from backupd.retention import Retention
from backupd.storage.s3options import CONNECTIONS, S3Options
from backupd.volume import Policy, Quiesce, Rule

DEFAULT_CONFIG = Path("/etc/backupd/config.toml")

_PREFIX = "BACKUPD_"
_CONFIG = "BACKUPD_CONFIG"
T = TypeVar("T")


def load(
    config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Settings:
    """Read the settings: file < `BACKUPD_…` variables < overrides, whose keys are dotted (None: not given).

    Without `config` the file is the one that `BACKUPD_CONFIG` names, else /etc/backupd/config.toml if there
    is one. Raises ConfigError for a named file that is missing, and for every name or value that makes no
    sense, saying where it stands; a value is repeated only where it cannot be a secret.
    """
    path = _config_path(config, environ)
    values = _read_toml(path) if path else {}
    origins = {}
    for variable, key, text in _environment(environ):
        _place(values, key, text)
        origins[key] = variable
    for key, given in (overrides or {}).items():
        if given is not None:
            _place(values, key, given)
            origins[key] = "command line"
    try:
        return Settings(**values)
    except ValidationError as error:
        raise _explain(error, str(path), origins) from None


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
    from backupd.repository import age  # brings pyrage along, which most have no use for

    return _read(age.normalise, text)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([0-9]{1,6})\s*([smhd])", value.strip().lower())
    if match is None:
        raise ValueError('should be a number and a unit, such as "90s", "30m", "24h" or "7d"')
    return timedelta(**{_DURATION_UNITS[match[2]]: int(match[1])})


def _schedule_or_never(value: str) -> str | None:
    return None if value.strip().lower() in ("", "never") else _schedule(value)


_DURATION_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
_Cron = Annotated[str, AfterValidator(_schedule)]
_CronOrNever = Annotated[str, AfterValidator(_schedule_or_never)]
_Duration = Annotated[timedelta, BeforeValidator(_duration), Field(ge=timedelta(0))]
_Zone = Annotated[str, AfterValidator(_zone)]
_Patterns = Annotated[tuple[_Text, ...], BeforeValidator(_patterns)]
_Endpoint = Annotated[_Text, AfterValidator(_endpoint)]
_StorageClass = Annotated[_Text, AfterValidator(_storage_class)]
_Recipients = Annotated[tuple[Annotated[_Text, AfterValidator(_recipient)], ...], BeforeValidator(_words)]
_Retention = Annotated[Retention, PlainValidator(_retention)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class HelperSettings(_Section):
    """The throwaway containers that run tar; `fifo_dir` must be reachable for them and for backupd."""

    image: _Text | None = None
    fifo_dir: Path | None = None


class S3Settings(_Section):
    """How a storage in S3 is reached and how it keeps objects; without keys the usual AWS chain has them."""

    endpoint: _Endpoint | None = None
    region: _Text | None = None
    path_style: bool | None = None
    storage_class: _StorageClass | None = None
    sse: Literal["AES256", "aws:kms"] | None = None
    sse_key_id: _Text | None = None
    access_key: _Text | None = None
    secret_key: SecretStr | None = None
    connections: Annotated[int, Field(ge=1, le=256)] = CONNECTIONS
    conditional_put: bool = True

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key belong together: set both, or none for the AWS chain")
        if self.sse_key_id is not None and self.sse != "aws:kms":
            raise ValueError('sse_key_id belongs to sse = "aws:kms"')
        return self

    @property
    def options(self) -> S3Options:
        """The same for the storage."""
        secret = self.secret_key.get_secret_value() if self.secret_key else None
        return S3Options(**(dict(self) | {"secret_key": secret}))


class DefaultSettings(_Section):
    """What holds for a protected volume where nothing else is said."""

    schedule: _Cron = "@daily"
    retention: _Retention = Retention.parse("last=3 daily=7 weekly=4 monthly=12")
    quiesce: Quiesce = "pause"
    exclude: _Patterns = ()


class RuleSettings(_Section):
    """A `[[volume]]` table: what holds for the volumes whose names match a glob."""

    match: _Text
    enable: bool | None = None
    schedule: _Cron | None = None
    retention: _Retention | None = None
    quiesce: Quiesce | None = None
    exclude: _Patterns | None = None


class ForgetSettings(_Section):
    """When retention is applied; who may not delete leaves it to another machine's `backupd forget`."""

    after_backup: bool = True


class EncryptionSettings(_Section):
    """The keys of an encrypted repository: public ones here, of secret ones only where they lie."""

    recipients: _Recipients = ()
    identity_file: Path | None = None
    passphrase_file: Path | None = None
    id_key_file: Path | None = None


class PruneSettings(_Section):
    """When chunks that no snapshot names are deleted; no `schedule` where another host does it."""

    schedule: _CronOrNever | None = "@weekly"
    grace: _Duration = timedelta(hours=24)


class LogSettings(_Section):
    """How the log looks and how much is said."""

    format: Annotated[Literal["auto", "json", "console"], BeforeValidator(_lower)] = "auto"
    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    storage: _Text = "/backups"
    state_dir: Path = Path("/var/lib/backupd")
    instance: _Name | None = None
    host: _Name = Field(default_factory=socket.gethostname)
    docker_host: _Text | None = None
    concurrency: Annotated[int, Field(ge=1)] = 2
    timezone: _Zone | None = None
    s3: S3Settings = S3Settings()
    helper: HelperSettings = HelperSettings()
    default: DefaultSettings = DefaultSettings()
    forget: ForgetSettings = ForgetSettings()
    encryption: EncryptionSettings = EncryptionSettings()
    prune: PruneSettings = PruneSettings()
    log: LogSettings = LogSettings()
    volume: tuple[RuleSettings, ...] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` has merged: the sources themselves let misspelt variables pass."""
        return (init_settings,)

    @property
    def fifo_dir(self) -> Path:
        """The directory that helpers and backupd share."""
        return self.helper.fifo_dir or self.state_dir / "fifo"

    @property
    def keys(self) -> Keys:
        """What an encrypted repository is made and opened with."""
        given = self.encryption
        return Keys(
            recipients=given.recipients,
            identity_file=given.identity_file,
            passphrase_file=given.passphrase_file,
            id_key_file=given.id_key_file or self.state_dir / "id_key",
        )

    @property
    def defaults(self) -> Policy:
        """The policy of a volume of which nothing is said."""
        return Policy(**dict(self.default))

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The `[[volume]]` tables, in the order in which they are tried."""
        return tuple(Rule(**dict(rule)) for rule in self.volume)


def _config_path(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    if config is not None:
        return config
    if environ.get(_CONFIG):
        return Path(environ[_CONFIG])
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", hint="the file is named by --config or BACKUPD_CONFIG"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Variable, dotted key and value of all that is set; a name that ends in `_FILE` points to the value."""
    variables = {_variable(key): key for key in _keys(Settings)}
    for name in sorted(environ):
        target = name.removesuffix("_FILE")
        if not name.startswith(_PREFIX) or name == _CONFIG:
            continue
        if name in variables:
            yield name, variables[name], environ[name]
        elif target not in variables:
            raise ConfigError(f"unknown environment variable {name}", hint=_nearest(name, list(variables)))
        elif target in environ:
            raise ConfigError(f"{target} and {name} are both set", hint="unset one of them")
        else:
            yield name, variables[target], _read_value(name, Path(environ[name]))


def _variable(key: str) -> str:
    return _PREFIX + key.replace(".", "__").upper()


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of all that is one value; rules are a list of tables and have no such name."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        elif name != "volume":
            yield prefix + name


def _read_value(variable: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(f"{variable}: cannot read {path}: {reason}") from error


def _place(values: dict[str, Any], key: str, value: object) -> None:
    *sections, name = key.split(".")
    for section in sections:
        inner = values.get(section)
        values[section] = dict(inner) if isinstance(inner, dict) else {}
        values = values[section]
    values[name] = value


def _explain(error: ValidationError, path: str, origins: Mapping[str, str]) -> ConfigError:
    """All that is wrong, each with the place where it was said."""
    wrong = error.errors(include_url=False, include_input=False)
    hints = [_suggestion(detail) for detail in wrong if detail["type"] == "extra_forbidden"]
    return ConfigError(
        "; ".join(_complaint(detail, path, origins) for detail in wrong), hint=(hints or [None])[0]
    )


def _complaint(detail: ErrorDetails, path: str, origins: Mapping[str, str]) -> str:
    parts = [str(part) for part in detail["loc"]]
    origin = next(
        (origins[key] for end in range(len(parts), 0, -1) if (key := ".".join(parts[:end])) in origins), path
    )
    if detail["type"] == "extra_forbidden":
        return f"{origin}: unknown setting {'.'.join(parts)}"
    cause = detail.get("ctx", {}).get("error", detail["msg"])
    text = str(cause)
    return f"{origin}: {'.'.join(parts)}: {text[:1].lower()}{text[1:]}"


def _suggestion(detail: ErrorDetails) -> str | None:
    *section, name = [str(part) for part in detail["loc"]]
    if section[:1] == ["volume"]:
        return _nearest(name, list(RuleSettings.model_fields))
    return _nearest(".".join((*section, name)), [*_keys(Settings), *Settings.model_fields])


def _nearest(name: str, known: list[str]) -> str | None:
    found = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {found[0]}?" if found else None
