"""Which volumes are protected and how: from labels, configuration rules and defaults to a policy.

The only place that knows the labels `backupd.*` of volumes and of the user's containers.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from backupd import cron, duration
from backupd.errors import ConfigError
from backupd.retention import Retention
from backupd.treatment import HOOK_SECONDS, Hook, Mode, Treatment, command
from backupd.volume import COMPOSE_VOLUME, Container, Volume

Guard = Literal["snapshot", "hold", "off"]
"""What stands before the deletion of a volume: a snapshot, a container that refers to it as well, nothing."""

T = TypeVar("T")

_PREFIX = "backupd."
_ADDRESS = "backupd.volume."
_RESERVED = ("helper", "instance", "run", "stand-in", "test")
_LATER = ("drill",)
_NOBODY = "no label and no rule says backupd.enable=true"


@dataclass(frozen=True)
class Policy:
    """How a protected volume is backed up; `schedule` is a cron expression, `exclude` are tar patterns.

    `group` names the volumes that are read together with it; "" is nobody, None those of its compose project.

    `quiesce`, `pre`, `post` and what belongs to them hold for containers that say nothing of their own; see
    `treatment`. `said` names what a label, a rule or the configuration has set: the rest is built in.
    """

    schedule: str
    quiesce: Mode
    exclude: tuple[str, ...]
    retention: Retention
    guard: Guard = "snapshot"
    ping: str | None = field(default=None, repr=False)
    group: str | None = None
    pre: tuple[str, ...] | None = None
    pre_user: str | None = None
    pre_timeout: float | None = None
    post: tuple[str, ...] | None = None
    post_user: str | None = None
    post_timeout: float | None = None
    said: frozenset[str] = field(default=frozenset(), compare=False)


@dataclass(frozen=True)
class Rule:
    """What the configuration says of the volumes whose names match a glob; None leaves a thing open."""

    match: str
    enable: bool | None = None
    schedule: str | None = None
    quiesce: Mode | None = None
    exclude: tuple[str, ...] | None = None
    retention: Retention | None = None
    guard: Guard | None = None
    ping: str | None = field(default=None, repr=False)
    group: str | None = None
    pre: tuple[str, ...] | None = None
    pre_user: str | None = None
    pre_timeout: float | None = None
    post: tuple[str, ...] | None = None
    post_user: str | None = None
    post_timeout: float | None = None


@dataclass(frozen=True)
class Protection:
    """A volume's policy and who asked for it: `origin`; or no policy, and `errors` or `origin` say why."""

    volume: Volume
    policy: Policy | None
    origin: str
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def unasked(self) -> bool:
        """Whether nobody has said anything of protecting it, for or against."""
        return self.origin == _NOBODY


def resolve(
    volume: Volume,
    users: Sequence[Container],
    rules: Sequence[Rule],
    defaults: Policy,
    *,
    everything: bool = False,
) -> Protection:
    """Decide whether a volume is protected and how: from labels on it and its containers, rules, defaults.

    For each key the volume's own label comes first, then a container's `backupd.volume.<name>.<key>`, then
    `backupd.<key>` of a container that mounts the volume read-write, then the first rule that matches its
    name, then the defaults. `enable` is the exception: a single false wins over everything; where nobody says
    anything, a volume is protected if `everything` is and the volume has a name of its own. Containers that
    disagree on something that no label on the volume settles are an error, but for what is done to each of
    them by itself: see `treatment`.
    """
    rule = next((rule for rule in rules if fnmatchcase(volume.name, rule.match)), None)
    claims = tuple(_claims(volume, users))
    warnings = (*_misnamed(volume, users), *_ineffective(claims), *_unheard(volume, users))
    try:
        unasked = (True, 'protect = "all"') if everything and not volume.anonymous else (False, _NOBODY)
        enabled, origin = _enabled(claims, rule, unasked)
    except ConfigError as error:
        return Protection(volume, None, "backupd.enable is in error", (_told(error),), warnings)
    if not enabled:
        return Protection(volume, None, origin, (), (*warnings, *_idle(claims, origin)))
    policy, errors = _policy(volume, claims, _ruled(rule, defaults))
    return Protection(volume, None if errors else policy, origin, errors, warnings)


def treatment(
    volume: Volume, policy: Policy, container: Container, default: Treatment | None = None
) -> Treatment:
    """How the container is calmed for the sake of a volume that it writes to; ConfigError for a bad label.

    For each key the volume's own label comes first, then the container's `backupd.volume.<name>.<key>`, then
    its `backupd.<key>`, then the policy. `default` is what suits the container where nobody has said
    anything of the key at all.
    """
    own: dict[str, Any] = {
        claim.key: _read(claim, _READERS[claim.key])
        for claim in sorted(_claims(volume, (container,)), key=lambda claim: -claim.rank)
        if claim.key in _PER_CONTAINER
    }
    said = policy.said | {_field(key) for key in own}
    chosen = replace(policy, **{_field(key): value for key, value in own.items()})
    mode, pre, post = chosen.quiesce, _hook(chosen, "pre"), _hook(chosen, "post")
    if default is not None:
        mode = mode if "quiesce" in said else default.mode
        pre = pre if "pre" in said else default.pre
        post = post if "post" in said else default.post
    return Treatment(mode, pre, post)


def _hook(policy: Policy, key: str) -> tuple[Hook, ...]:
    words = getattr(policy, key)
    seconds = getattr(policy, f"{key}_timeout") or HOOK_SECONDS
    return (Hook(words, getattr(policy, f"{key}_user"), seconds),) if words else ()


@dataclass(frozen=True)
class _Claim:
    """A label that speaks of the volume; the lowest rank is heard first."""

    rank: int
    key: str
    value: str
    label: str
    owner: str

    def __str__(self) -> str:
        # Whoever has the address of a ping can send one.
        value = "…" if self.key == "ping" else self.value
        return f"{self.label}={value} on {self.owner}"


def _claims(volume: Volume, users: Iterable[Container]) -> Iterator[_Claim]:
    for label, value in _labels(volume.labels):
        yield _Claim(0, label.removeprefix(_PREFIX), value, label, f"volume {volume.name}")
    for container in users:
        for label, value in _labels(container.labels):
            name, key = _addressed(label)
            if name in _names(volume, container):
                yield _Claim(1, key, value, label, f"container {container.name}")
            elif name is None and container.writes(volume.name):
                yield _Claim(2, key, value, label, f"container {container.name}")


def _labels(labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for label, value in sorted(labels.items()):
        if label.startswith(_PREFIX) and label.split(".")[1] not in _RESERVED:
            yield label, value.strip()


def _addressed(label: str) -> tuple[str | None, str]:
    """The volume that a container's label is for, None for all that it writes to; and the key."""
    name, _, key = label.removeprefix(_ADDRESS).rpartition(".")
    if label.startswith(_ADDRESS) and name:
        return name, key
    return None, label.removeprefix(_PREFIX)


def _names(volume: Volume, container: Container) -> tuple[str, ...]:
    """What a container's labels may call the volume: in its own compose project, by the short name too."""
    short = volume.labels.get(COMPOSE_VOLUME)
    if short and volume.project == container.project:
        return volume.name, short
    return (volume.name,)


def _misnamed(volume: Volume, users: Iterable[Container]) -> Iterator[str]:
    for container in users:
        mounted = {mount.volume for mount in container.mounts}
        known = mounted | {name.removeprefix(f"{container.project}_") for name in mounted}
        known.update(_names(volume, container))
        for label, _ in _labels(container.labels):
            name, _ = _addressed(label)
            if name is not None and name not in known:
                near = _nearest(name, sorted(known))
                yield f'{label} on container {container.name}: it mounts no volume "{name}"{near}'


def _ineffective(claims: Iterable[_Claim]) -> Iterator[str]:
    for claim in claims:
        if claim.key in _LATER:
            yield f"{claim} is not supported by this version and has no effect"
        elif claim.key not in LABEL_KEYS:
            near = _nearest(claim.key, LABEL_KEYS, _PREFIX)
            yield f"unknown label {claim.label} on {claim.owner}{near}"


def _unheard(volume: Volume, users: Iterable[Container]) -> Iterator[str]:
    """A container that only reads is not calmed."""
    for container in users:
        if not container.writes(volume.name):
            for claim in _claims(replace(volume, labels={}), (container,)):
                if claim.key in _PER_CONTAINER:
                    yield f"{claim} has no effect: it mounts volume {volume.name} read-only"


def _nearest(name: str, known: Sequence[str], prefix: str = "") -> str:
    found = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {prefix}{found[0]}?" if found else ""


def _idle(claims: Sequence[_Claim], origin: str) -> Iterator[str]:
    if claims and origin == _NOBODY:
        owners = " and ".join(dict.fromkeys(claim.owner for claim in claims))
        yield f"{owners} has backupd labels but not backupd.enable=true; not protected"


def _enabled(claims: Iterable[_Claim], rule: Rule | None, unasked: tuple[bool, str]) -> tuple[bool, str]:
    """Whether the volume is protected, and who says so; `unasked` where nobody does."""
    said = [(_read(claim, _boolean), str(claim)) for claim in claims if claim.key == "enable"]
    if rule is not None and rule.enable is not None:
        said.append((rule.enable, f'enable={str(rule.enable).lower()} in the rule for "{rule.match}"'))
    return min(said, key=lambda answer: answer[0], default=unasked)


def _ruled(rule: Rule | None, defaults: Policy) -> Policy:
    names = [_field(key) for key in _READERS]
    ruled = {name: getattr(rule, name) for name in names if getattr(rule, name, None) is not None}
    return replace(defaults, **ruled, said=defaults.said | ruled.keys())


def _policy(volume: Volume, claims: Sequence[_Claim], below: Policy) -> tuple[Policy, tuple[str, ...]]:
    errors = []
    chosen: dict[str, Any] = {"schedule": below.schedule}
    for key, reader in _READERS.items():
        heard = [claim for claim in claims if claim.key == key]
        try:
            if key in _PER_CONTAINER:
                for claim in heard:
                    _read(claim, reader)
                heard = [claim for claim in heard if claim.rank == 0]
            chosen |= _decide(heard, reader)
        except ConfigError as error:
            errors.append(_told(error))
    try:
        cron.parse(chosen["schedule"], seed=volume.name)
    except ConfigError as error:
        errors.append(f"schedule of volume {volume.name}: {_told(error)}")
    return replace(below, **chosen, said=below.said | chosen.keys()), tuple(errors)


def _decide(claims: Sequence[_Claim], reader: Callable[[str], object]) -> dict[str, object]:
    """What the claims on one key come to: the value of the first in rank, if those agree."""
    if not claims:
        return {}
    first = min(claims, key=lambda claim: claim.rank)
    value = _read(first, reader)
    for claim in claims:
        if claim.rank == first.rank and _read(claim, reader) != value:
            raise ConfigError(f"{first} and {claim} disagree", hint=f"label the volume: backupd.{first.key}")
    return {_field(first.key): value}


def _read(claim: _Claim, reader: Callable[[str], T]) -> T:
    try:
        return reader(claim.value)
    except ConfigError as error:
        raise ConfigError(f"{claim.label} on {claim.owner}: {error.message}", hint=error.hint) from error


def _told(error: ConfigError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message


def _boolean(value: str) -> bool:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ConfigError(f'"{value}" is neither true nor false')


def _quiesce(value: str) -> str:
    if value in get_args(Mode):
        return value
    raise ConfigError(f'"{value}" is none of pause, stop and none')


def _seconds(value: str) -> float:
    seconds = duration.parse(value).total_seconds()
    if seconds <= 0:
        raise ConfigError(f'"{value}" is no time to wait')
    return seconds


def _name(value: str) -> str:
    if not value:
        raise ConfigError("is empty")
    return value


def _guard(value: str) -> str:
    if value in get_args(Guard):
        return value
    raise ConfigError(f'"{value}" is neither snapshot, hold nor off')


def http_address(value: str) -> str:
    """The address, if it is one of http or https; `ConfigError`, which does not repeat it."""
    try:
        parts = urlsplit(value)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return value
    except ValueError:
        pass
    raise ConfigError("no address that begins with https:// or http://")


def _patterns(value: str) -> tuple[str, ...]:
    return tuple(pattern.strip() for pattern in value.split(",") if pattern.strip())


def group_name(value: str) -> str:
    """The name of a group; "" where the volume is to be read alone."""
    if value in ("", "none"):
        return ""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", value):
        raise ConfigError(f'"{value}" is no name for a group', hint="use letters, digits, _ . and -")
    return value


_READERS: Mapping[str, Callable[[str], object]] = {
    "schedule": str,
    "retention": Retention.parse,
    "quiesce": _quiesce,
    "exclude": _patterns,
    "guard": _guard,
    "ping": http_address,
    "group": group_name,
    "pre": command,
    "pre-user": _name,
    "pre-timeout": _seconds,
    "post": command,
    "post-user": _name,
    "post-timeout": _seconds,
}
_PER_CONTAINER = ("quiesce", "pre", "pre-user", "pre-timeout", "post", "post-user", "post-timeout")


def _field(key: str) -> str:
    """The name of what a key says in Policy and Rule."""
    return key.replace("-", "_")


LABEL_KEYS = ("enable", *_READERS)
"""What may follow `backupd.` in a label."""
