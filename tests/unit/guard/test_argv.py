"""What a command may take is read off its words as docker and compose read them, and never too little."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backupd.cli.guarded import passed_on
from backupd.guard.argv import compose, docker
from backupd.guard.removal import Removal

CORPUS = [
    line.rsplit(" => ", 1)
    for line in (Path(__file__).parent / "corpus.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
PROJECT = Removal(project=True, anonymous=True)

values = st.sampled_from(["x", "down", "rm", "-v", "--volumes", "a.yml", "prune", "volume"])
compose_options = st.one_of(
    st.tuples(st.sampled_from(["-f", "--file", "-p", "--project-name", "--profile", "--env-file"]), values),
    st.builds(lambda v: (f"--file={v}",), values),
    st.builds(lambda v: (f"-p{v}",), st.sampled_from(["x", "down", "v"])),
    st.sampled_from([("--verbose",), ("--compatibility",), ("--ansi", "never"), ("--parallel=2",)]),
)
docker_options = st.one_of(
    st.tuples(st.sampled_from(["-H", "--host", "-c", "--context", "-l", "--config"]), values),
    st.sampled_from([("-D",), ("--tls",), ("--log-level=info",)]),
)
spellings = st.sampled_from(
    [("-v",), ("--volumes",), ("--volume",), ("-v=true",), ("--volumes=1",), ("-vt", "5"), ("-vt5",)]
)
beside = st.lists(
    st.sampled_from(
        [("web",), ("--remove-orphans",), ("-t", "3"), ("--rmi", "all"), ("--timeout=9",), ("-t9",)]
    ),
    max_size=4,
)
words = st.lists(
    st.one_of(
        values,
        st.text(max_size=6),
        st.sampled_from(["compose", "system", "container", "--", "-", "-fsv", "--new", "up", "-V", "-H"]),
    ),
    max_size=8,
)


def flat(parts: list[tuple[str, ...]]) -> list[str]:
    return [word for part in parts for word in part]


def expected(text: str) -> Removal:
    facts: dict[str, object] = {}
    for fact in text.split():
        name, _, listed = fact.partition(":")
        facts[name] = frozenset(listed.split(",")) if listed else True
    facts.pop("nothing", None)
    return Removal(**facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(("line", "taken"), CORPUS, ids=[line.strip() for line, _ in CORPUS])
def test_a_command_of_the_corpus_takes_what_it_says(line: str, taken: str) -> None:
    """No more and no less where nothing is in doubt; and all words are passed on as they came."""
    command = docker(shlex.split(line))
    assert command.removal == expected(taken)
    assert command.words == tuple(shlex.split(line))


@given(
    st.lists(docker_options, max_size=3), st.lists(compose_options, max_size=4), spellings, beside, st.data()
)
def test_down_v_is_seen_wherever_it_stands(
    outer: list[tuple[str, ...]],
    inner: list[tuple[str, ...]],
    volumes: tuple[str, ...],
    others: list[tuple[str, ...]],
    data: st.DataObject,
) -> None:
    """Whatever the options before it, among them and their values that look like commands."""
    at = data.draw(st.integers(0, len(others)))
    rest = [*others[:at], volumes, *others[at:]]
    command = docker([*flat(outer), "compose", *flat(inner), "down", *flat(rest)])
    assert command.removal == PROJECT
    assert command.services is not None
    assert command.services.count("web") == flat(others).count("web")


@given(words)
def test_an_option_that_is_not_known_hides_nothing(after: list[str]) -> None:
    """With a value or without one: what follows it may be the command."""
    assume(not any(word.startswith("-") and "h" in word for word in after))
    for unknown in (["--from-tomorrow"], ["--from-tomorrow", "value"]):
        command = docker(["compose", *unknown, "down", "-v", *after])
        assert command.removal.project
        assert docker([*unknown, "volume", "rm", "a"]).removal.names >= {"a"}


@given(words)
def test_any_words_are_read_and_passed_on(given_words: list[str]) -> None:
    """Nothing raises, and nothing is lost on the way."""
    assert docker(given_words).words == tuple(given_words)
    assert compose(given_words).words == ("compose", *given_words)


@given(words, st.sampled_from(["a", "b", "x y"]))
def test_every_volume_that_is_named_is_named(more: list[str], name: str) -> None:
    """`docker volume rm`: each operand, whatever stands around it."""
    given_words = ["volume", "rm", *(word for word in more if word not in ("-h", "--help")), name]
    command = docker(given_words)
    harmless = any(w.startswith(("--help", "-")) and "h" in w for w in more)
    assert name in command.removal.names or harmless


def test_services_and_time_go_to_stop() -> None:
    """What is stopped first is what `down` was told, with the time it was given."""
    assert compose(["down", "-v", "-t", "3", "web"]).services == ("--timeout", "3", "--", "web")
    assert compose(["down", "-v"]).services == ("--",)
    assert compose(["rm", "-v"]).services is None


def test_the_last_project_name_counts() -> None:
    """As compose reads it."""
    assert compose(["-p", "a", "--project-name=b", "down", "-v"]).project == "b"
    assert compose(["-pa", "down", "-v"]).project == "a"
    assert compose(["down", "-v"]).project is None


@pytest.mark.parametrize(
    ("given_words", "taken"),
    [
        (["compose", "down", "-v"], (None, "compose", ("down", "-v"))),
        (["--config", "c", "docker", "--config", "d", "ps"], (Path("c"), "docker", ("--config", "d", "ps"))),
        (["--config=c", "compose"], (Path("c"), "compose", ())),
        (["backup", "compose"], None),
        (["--help", "compose"], None),
        (["--config", "compose"], None),
        ([], None),
    ],
)
def test_words_for_docker_are_told_from_others(given_words: list[str], taken: object) -> None:
    """backupd's own options stand before the verb, everything after it is docker's."""
    assert passed_on(given_words) == taken


@given(st.builds(Removal, names=st.frozensets(values), prunable=st.booleans(), project=st.booleans()))
def test_a_removal_is_less_than_one_that_takes_more(removal: Removal) -> None:
    """Order and truth."""
    assert Removal() <= removal <= removal | PROJECT
    assert bool(removal) == (removal != Removal())
