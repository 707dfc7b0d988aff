"""What a docker or compose command may take away: pure, from its words alone, and never too little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from backupd.guard.options import Known, Read, known, read
from backupd.guard.removal import Removal

Words = tuple[str, ...]

HELP = known(switches="h help")
DOCKER = HELP | known(
    "config c context H host l log-level tlscacert tlscert tlskey", "D debug tls tlsverify v version"
)
COMPOSE = HELP | known(
    "ansi env-file f file parallel profile progress project-directory workdir p project-name",
    "all-resources compatibility dry-run no-ansi verbose v version",
)
_DRY = known(switches="dry-run")
_DOWN = HELP | _DRY | known("rmi t timeout", "remove-orphans v volume volumes")
_RM = HELP | _DRY | known(switches="a all f force s stop v volumes")
_UP = (
    HELP
    | _DRY
    | known(
        "attach exit-code-from no-attach pull scale t timeout wait-timeout",
        "V renew-anon-volumes abort-on-container-exit abort-on-container-failure always-recreate-deps "
        "attach-dependencies build d detach force-recreate menu no-build no-color no-deps no-log-prefix "
        "no-recreate no-start quiet-build quiet-pull remove-orphans timestamps w watch wait y yes",
    )
)
_CONTAINER_RM = HELP | known(switches="f force l link v volumes")
_VOLUME_RM = HELP | known(switches="f force")
_PRUNE = HELP | known("filter", "a all f force volumes")


@dataclass(frozen=True)
class Command:
    """A command as it is to be run, and what it may take.

    `docker` are the options of docker itself, `compose` is empty or `compose` with its own options, `verb` is
    the rest: one after the other they are the words that were given. `services` are those that `compose
    stop` should stop first, with its options; None where nothing needs to be stopped.
    """

    docker: tuple[str, ...]
    compose: tuple[str, ...]
    verb: tuple[str, ...]
    removal: Removal
    services: tuple[str, ...] | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """All of it, as `docker` is called."""
        return (*self.docker, *self.compose, *self.verb)

    @property
    def project(self) -> str | None:
        """The compose project that its options name."""
        return read(self.compose[1:], COMPOSE, mixed=True).last("p", "project-name")


def docker(words: Sequence[str]) -> Command:
    """What `docker` with these words after it may take away."""
    given = read(words, DOCKER, mixed=False)
    return _read_as(_docker, words, given)


def _docker(before: Words, rest: Words) -> Command:
    if rest[:1] == ("compose",):
        return replace(compose(rest[1:]), docker=before)
    for verb, reading in _VERBS.items():
        if rest[: len(verb)] == verb:
            return Command(before, (), rest, reading(rest[len(verb) :]))
    return Command(before, (), rest, Removal())


def compose(words: Sequence[str]) -> Command:
    """What `docker compose` with these words after it may take away."""
    given = read(words, COMPOSE | DOCKER, mixed=False)
    command = _read_as(_compose, words, given)
    if given.on("dry-run") and not given.doubtful:
        return replace(command, removal=Removal(), services=None)
    return command


def _read_as(reading: Callable[[Words, Words], Command], words: Sequence[str], given: Read) -> Command:
    """The command that begins with the first operand, or in doubt the first that takes something.

    The word after an unknown option may be its value: then the command begins further on, nobody knows where,
    and what any reading takes may go.
    """
    command = reading(tuple(words[: given.first]), tuple(words[given.first :]))
    for at in range(1, len(words)) if given.doubtful else ():
        other = reading(tuple(words[:at]), tuple(words[at:]))
        both = command.removal | other.removal
        command = replace(command if command.removal else other, removal=both) if both else command
    return command


def _compose(before: Words, rest: Words) -> Command:
    command = Command((), ("compose", *before), rest, Removal())
    if not rest or rest[0] not in _OF_COMPOSE:
        return command
    options, taken = _OF_COMPOSE[rest[0]]
    given = read(rest[1:], options, mixed=True)
    if _harmless(given):
        return command
    removal = taken(given)
    stopped = rest[0] == "down" and bool(removal)
    return replace(command, removal=removal, services=_stop(given) if stopped else None)


def _stop(given: Read) -> tuple[str, ...]:
    seconds = given.last("t", "timeout")
    return (*(("--timeout", seconds) if seconds else ()), "--", *given.operands)


def _harmless(given: Read) -> bool:
    """Whether it only shows its help, or says what it would do."""
    return not given.doubtful and given.on("h", "help", "dry-run")


def _down(given: Read) -> Removal:
    # It tries every volume of the project, even if services are named: what still uses one keeps it.
    taken = given.on("v", "volume", "volumes")
    return Removal(project=taken, anonymous=taken)


def _rm(given: Read) -> Removal:
    return Removal(anonymous=given.on("v", "volumes"))


def _up(given: Read) -> Removal:
    # Newer ones ask whether to make a volume anew that the file describes otherwise; -y says yes to that.
    return Removal(project=given.on("y", "yes"), anonymous=given.on("V", "renew-anon-volumes", "y", "yes"))


def _volume_rm(words: Sequence[str]) -> Removal:
    given = read(words, _VOLUME_RM, mixed=True)
    return Removal() if _harmless(given) else Removal(names=frozenset(given.operands))


def _volume_prune(words: Sequence[str]) -> Removal:
    return Removal(prunable=not _harmless(read(words, _PRUNE, mixed=True)))


def _system_prune(words: Sequence[str]) -> Removal:
    given = read(words, _PRUNE, mixed=True)
    taken = given.on("volumes") and not _harmless(given)
    return Removal(prunable=taken, unused=taken)


def _container_rm(words: Sequence[str]) -> Removal:
    given = read(words, _CONTAINER_RM, mixed=True)
    taken = given.on("v", "volumes") and not _harmless(given)
    return Removal(containers=frozenset(given.operands if taken else ()))


_VERBS: dict[tuple[str, ...], Callable[[Sequence[str]], Removal]] = {
    ("volume", "rm"): _volume_rm,
    ("volume", "remove"): _volume_rm,
    ("volume", "prune"): _volume_prune,
    ("system", "prune"): _system_prune,
    ("rm",): _container_rm,
    ("container", "rm"): _container_rm,
    ("container", "remove"): _container_rm,
}
_OF_COMPOSE: dict[str, tuple[Known, Callable[[Read], Removal]]] = {
    "down": (_DOWN, _down),
    "rm": (_RM, _rm),
    "up": (_UP, _up),
    "create": (_UP, _up),
}
