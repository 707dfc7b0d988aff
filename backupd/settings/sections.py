"""The sections of the settings; the defaults are here."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from backupd.engine.limits import Limits
from backupd.protection import Guard
from backupd.retention import Retention
from backupd.settings.values import (
    Address,
    Addresses,
    Command,
    Cron,
    CronOrNever,
    Duration,
    Endpoint,
    GroupName,
    Listen,
    Patterns,
    Recipients,
    RetentionText,
    Seconds,
    SecretAddress,
    Share,
    Size,
    StorageClass,
    Text,
    lower,
)
from backupd.storage.s3options import CONNECTIONS, S3Options
from backupd.treatment import Mode

MEMORY_BYTES_MIN = 32 * 1024 * 1024
RATE_MIN = 64 * 1024
"""Less would keep containers still, and a snapshot unfinished, for days."""


class Section(BaseModel):
    """A table of the settings, in which unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class HelperSettings(Section):
    """The throwaway containers that run tar; `fifo_dir` must be reachable for them and for backupd."""

    image: Text | None = None
    fifo_dir: Path | None = None
    memory: Annotated[Size, Field(ge=MEMORY_BYTES_MIN)] = Limits.memory_bytes
    cpu_shares: Annotated[int, Field(ge=2, le=262_144)] | None = None
    io_weight: Annotated[int, Field(ge=10, le=1000)] | None = None

    @property
    def limits(self) -> Limits:
        """The same for the engine."""
        return Limits(self.memory, self.cpu_shares, self.io_weight)


class S3Settings(Section):
    """How a storage in S3 is reached and how it keeps objects; without keys the usual AWS chain has them."""

    endpoint: Endpoint | None = None
    region: Text | None = None
    path_style: bool | None = None
    storage_class: StorageClass | None = None
    sse: Literal["AES256", "aws:kms"] | None = None
    sse_key_id: Text | None = None
    access_key: Text | None = None
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


class DefaultSettings(Section):
    """What holds for a protected volume where nothing else is said."""

    schedule: Cron = "@daily"
    retention: RetentionText = Retention.parse("last=3 daily=7 weekly=4 monthly=12")
    quiesce: Mode = "pause"
    exclude: Patterns = ()
    guard: Guard = "snapshot"


class RuleSettings(Section):
    """A `[[volume]]` table: what holds for the volumes whose names match a glob."""

    match: Text
    enable: bool | None = None
    schedule: Cron | None = None
    retention: RetentionText | None = None
    quiesce: Mode | None = None
    exclude: Patterns | None = None
    guard: Guard | None = None
    ping: Annotated[Address | None, Field(repr=False)] = None
    group: GroupName | None = None
    pre: Command | None = None
    pre_user: Text | None = None
    pre_timeout: Seconds | None = None
    post: Command | None = None
    post_user: Text | None = None
    post_timeout: Seconds | None = None


class QuiesceSettings(Section):
    """How long a backup may keep an application from its work, hooks and all."""

    limit: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(minutes=10)


class ForgetSettings(Section):
    """When retention is applied; who may not delete leaves it to another machine's `backupd forget`."""

    after_backup: bool = True


class EncryptionSettings(Section):
    """The keys of an encrypted repository: public ones here, of secret ones only where they lie."""

    recipients: Recipients = ()
    identity_file: Path | None = None
    passphrase_file: Path | None = None
    id_key_file: Path | None = None


class PruneSettings(Section):
    """When packs that no snapshot names are deleted; no `schedule` where another host does it."""

    schedule: CronOrNever | None = "@weekly"
    grace: Duration = timedelta(hours=24)


class VerifySettings(Section):
    """When the daemon verifies the repository by itself, and which share of the data it reads each time."""

    schedule: CronOrNever | None = None
    read_data: Share = 0.0


class LimitSettings(Section):
    """How many bytes a second backups may read from volumes, and put into the storage, taken together."""

    read: Annotated[Size, Field(ge=RATE_MIN)] | None = None
    upload: Annotated[Size, Field(ge=RATE_MIN)] | None = None


class WebSettings(Section):
    """HTTP on TCP beside the socket in the state directory; on it all but /healthz takes the token."""

    listen: Listen | None = None
    token_file: Path | None = None
    hosts: Patterns = ()

    def address(self) -> tuple[str, int] | None:
        """Host and port."""
        if self.listen is None:
            return None
        host, _, port = self.listen.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), int(port)


class NotifySettings(Section):
    """Who is told; addresses are secrets, since whoever has them can write there."""

    webhook: SecretAddress | None = None
    webhook_secret: SecretStr | None = None
    apprise: Addresses = ()
    ping: SecretAddress | None = None
    repeat: Duration = timedelta(hours=24)

    @model_validator(mode="after")
    def _signs_something(self) -> Self:
        if self.webhook_secret is not None and self.webhook is None:
            raise ValueError("webhook_secret belongs to webhook")
        return self


class LogSettings(Section):
    """How the log looks and how much is said."""

    format: Annotated[Literal["auto", "json", "console"], BeforeValidator(lower)] = "auto"
    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)] = "info"
