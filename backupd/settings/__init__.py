"""What backupd is told: a TOML file, overruled by environment variables, overruled by the command line."""

from __future__ import annotations

import difflib
import socket
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from backupd.errors import ConfigError
from backupd.protection import Policy, Rule
from backupd.repository.encryption.keys import Keys
from backupd.settings.sections import (
    DefaultSettings,
    EncryptionSettings,
    ForgetSettings,
    HelperSettings,
    LimitSettings,
    LogSettings,
    NotifySettings,
    PruneSettings,
    QuiesceSettings,
    RuleSettings,
    S3Settings,
    VerifySettings,
    WebSettings,
)
from backupd.settings.values import Duration, Name, Text, Zone, lower

DEFAULT_CONFIG = Path("/etc/backupd/config.toml")

_PREFIX = "BACKUPD_"
_CONFIG = "BACKUPD_CONFIG"


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


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    storage: Text = "/backups"
    state_dir: Path = Path("/var/lib/backupd")
    instance: Name | None = None
    host: Name = Field(default_factory=socket.gethostname)
    docker_host: Text | None = None
    concurrency: Annotated[int, Field(ge=1)] = 2
    timezone: Zone | None = None
    jitter: Duration = timedelta(0)
    protect: Annotated[Literal["labelled", "all"], BeforeValidator(lower)] = "labelled"
    s3: S3Settings = S3Settings()
    helper: HelperSettings = HelperSettings()
    default: DefaultSettings = DefaultSettings()
    quiesce: QuiesceSettings = QuiesceSettings()
    forget: ForgetSettings = ForgetSettings()
    encryption: EncryptionSettings = EncryptionSettings()
    prune: PruneSettings = PruneSettings()
    verify: VerifySettings = VerifySettings()
    limits: LimitSettings = LimitSettings()
    web: WebSettings = WebSettings()
    notify: NotifySettings = NotifySettings()
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
        return Policy(**dict(self.default), said=frozenset(self.default.model_fields_set))

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
