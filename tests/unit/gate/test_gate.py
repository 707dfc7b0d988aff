"""What the gate answers, with an engine and a pre-flight that are told what to say."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from backupd.gate import gate as module
from backupd.gate.flights import Flights
from backupd.gate.gate import ACTIVATE, LEAVE, PROBE, REQUEST, RESPONSE, STATUS, Gate
from backupd.gate.passes import SECONDS, Passes
from backupd.gate.preflight import Verdict
from backupd.gate.trouble import Trouble

Saved = Callable[[Mapping[str, str]], Mapping[str, Verdict]]


class FewVolumes:
    """An engine that has the volumes `pear` and `plum`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.helpers_left = 0

    def created(self, volume: str) -> str | None:
        """When, if it is one of them."""
        self.asked.append(volume)
        return "yesterday" if volume in ("pear", "plum") else None

    def prunable(self) -> list[str]:
        """Both."""
        return ["pear", "plum"]

    def foreign(self) -> list[str]:
        """The second."""
        return ["plum"]

    def helpers(self, volume: str) -> list[str]:
        """So many times one, then none."""
        self.helpers_left -= 1
        return ["h"] if self.helpers_left >= 0 else []


class Away(FewVolumes):
    """An engine that does not answer."""

    def created(self, volume: str) -> str | None:
        """Not known."""
        raise Trouble("no answer")


def all_saved(volumes: Mapping[str, str]) -> Mapping[str, Verdict]:
    """Everything went well."""
    return {volume: Verdict(True) for volume in volumes}


def none_saved(volumes: Mapping[str, str]) -> Mapping[str, Verdict]:
    """Nothing did."""
    return {volume: Verdict(False, "the disk is full", "make room") for volume in volumes}


def ask(gate: Gate, method: str, target: str, **headers: str) -> dict[str, Any]:
    """What the gate says about a request."""
    asked = {"RequestMethod": method, "RequestUri": target, "RequestHeaders": headers}
    answer: dict[str, Any] = json.loads(gate.answer(REQUEST, json.dumps(asked).encode()))
    return answer


def denies(answer: dict[str, Any]) -> bool:
    """Is the request held back, with a reason?"""
    return answer["Allow"] is False and bool(answer["Msg"])


def test_it_says_what_it_is() -> None:
    """The engine's first question, and what `backupd gate status` asks."""
    gate = Gate(FewVolumes(), all_saved, Passes())
    assert json.loads(gate.answer(ACTIVATE, b"")) == {"Implements": ["authz"]}
    assert json.loads(gate.answer(STATUS, b""))["version"]
    assert "Err" in json.loads(gate.answer("/VolumeDriver.Create", b"{}"))


def test_what_is_no_removal_is_asked_of_nobody() -> None:
    """Neither the engine nor the daemon is troubled with it."""
    engine = FewVolumes()
    gate = Gate(engine, none_saved, Passes())
    for method, target in (
        ("GET", "/containers/json"),
        ("POST", "/containers/create"),
        ("DELETE", "/images/x"),
    ):
        assert ask(gate, method, target) == {"Allow": True}
    assert engine.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"RequestMethod":"GET"}',
        b'{"RequestMethod":1,"RequestUri":"/"}',
        b"\xff",
    ],
)
def test_what_cannot_be_read_is_denied(body: bytes) -> None:
    """G3: after a gate has died the engine asks the next one with nothing in its hands."""
    assert denies(json.loads(Gate(FewVolumes(), all_saved, Passes()).answer(REQUEST, body)))


def test_an_unclear_target_is_denied_where_it_could_destroy() -> None:
    """And let be where it could not."""
    gate = Gate(FewVolumes(), all_saved, Passes())
    assert denies(ask(gate, "DELETE", "/volumes/%zz"))
    assert not denies(ask(gate, "GET", "/volumes/%zz") | {"Msg": ""})


def test_answers_are_always_let_through() -> None:
    """It is too late then, and the body may be anything."""
    assert json.loads(Gate(Away(), none_saved, Passes()).answer(RESPONSE, b"\xff")) == {"Allow": True}


def test_a_denial_has_reason_hint_and_way_out() -> None:
    """G1: all that a person needs stands in what docker prints."""
    said = ask(Gate(FewVolumes(), none_saved, Passes()), "DELETE", "/v1.41/volumes/pear")["Msg"]
    for part in ("pear", "the disk is full", "make room", "backupd gate allow pear"):
        assert part in said


def test_a_prune_is_let_through_only_with_all_saved() -> None:
    """One that cannot be saved keeps the others."""

    def one_of_two(volumes: Mapping[str, str]) -> Mapping[str, Verdict]:
        return {volume: Verdict(volume == "pear", "no") for volume in volumes}

    said = ask(Gate(FewVolumes(), one_of_two, Passes()), "POST", "/volumes/prune")
    assert denies(said)
    assert "plum" in said["Msg"]
    assert "pear" not in said["Msg"]
    assert ask(Gate(FewVolumes(), all_saved, Passes()), "POST", "/volumes/prune") == {"Allow": True}


def test_an_engine_that_does_not_answer_means_no() -> None:
    """What is there is not known then."""
    said = ask(Gate(Away(), all_saved, Passes()), "DELETE", "/volumes/pear")
    assert denies(said)
    assert "no answer" in said["Msg"]


def test_a_gate_that_breaks_means_no(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it is, it is no reason to destroy."""

    def broken(volumes: Mapping[str, str]) -> Mapping[str, Verdict]:
        raise RuntimeError("oops")

    assert denies(ask(Gate(FewVolumes(), broken, Passes()), "DELETE", "/volumes/pear"))
    assert "oops" in capsys.readouterr().err


def test_a_volume_that_is_not_there_is_the_engines_to_refuse() -> None:
    """404 is its answer, not the gate's."""
    assert ask(Gate(FewVolumes(), none_saved, Passes()), "DELETE", "/volumes/apple") == {"Allow": True}


def test_the_helper_is_gone_before_the_volume_may_go() -> None:
    """The engine would say that it is in use, and compose would take that for success."""
    engine = FewVolumes()
    engine.helpers_left = 2
    assert ask(Gate(engine, all_saved, Passes()), "DELETE", "/volumes/pear") == {"Allow": True}
    assert engine.helpers_left == -1


def test_a_helper_that_stays_keeps_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its reason."""
    monkeypatch.setattr(module, "HELPER_SECONDS", 0)
    engine = FewVolumes()
    engine.helpers_left = 1_000_000
    assert "helper" in ask(Gate(engine, all_saved, Passes()), "DELETE", "/volumes/pear")["Msg"]


def test_backupds_own_client_is_not_asked_about() -> None:
    """It would wait for itself; of a prune it never has reason to ask."""
    gate = Gate(FewVolumes(), none_saved, Passes())
    own = {"User-Agent": "backupd/1.2"}
    assert ask(gate, "DELETE", "/volumes/pear", **own) == {"Allow": True}
    assert denies(ask(gate, "POST", "/volumes/prune", **own))
    assert denies(ask(gate, "DELETE", "/volumes/pear", **{"User-Agent": "Docker-Client/20.10"}))


def test_leave_is_for_one_volume_once_and_soon_over() -> None:
    """A person takes the loss of one volume, not of whatever comes."""
    now = [0.0]
    gate = Gate(FewVolumes(), none_saved, Passes(lambda: now[0]))
    assert json.loads(gate.answer(LEAVE, b'{"volumes": ["pear"]}')) == {}
    assert denies(ask(gate, "DELETE", "/volumes/plum"))
    assert ask(gate, "DELETE", "/volumes/pear") == {"Allow": True}
    assert denies(ask(gate, "DELETE", "/volumes/pear"))

    gate.answer(LEAVE, b'{"volumes": ["pear"]}')
    now[0] += SECONDS
    assert denies(ask(gate, "DELETE", "/volumes/pear"))
    assert "Err" in json.loads(gate.answer(LEAVE, b"pear"))


def test_a_marked_request_proves_that_the_engine_asks() -> None:
    """What was marked last is what the gate says it has seen."""
    gate = Gate(FewVolumes(), all_saved, Passes())
    assert ask(gate, "GET", f"/version?{PROBE}0123") == {"Allow": True}
    assert json.loads(gate.answer(STATUS, b""))["probed"] == "0123"


def test_who_asks_meanwhile_joins_the_pre_flight() -> None:
    """G2: one backup for a volume, however many want it gone; a volume made anew is another one."""
    began, go_on = threading.Event(), threading.Event()
    flown: list[list[str]] = []

    def preflight(volumes: Sequence[str]) -> dict[str, Verdict]:
        flown.append(list(volumes))
        began.set()
        assert go_on.wait(60)
        return {volume: Verdict(True) for volume in volumes}

    flights = Flights(preflight)
    results: list[dict[str, Verdict]] = []
    threads = [
        threading.Thread(target=lambda asked=asked: results.append(flights(asked)))
        for asked in ({"pear": "1"}, {"pear": "1", "plum": "1"}, {"pear": "2"})
    ]
    threads[0].start()
    assert began.wait(60)
    for thread in threads[1:]:
        thread.start()
    while len(flown) < 3:
        assert any(thread.is_alive() for thread in threads)
        began.wait(0.01)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert sorted(flown) == [["pear"], ["pear"], ["plum"]]
    assert len(results) == 3
    assert all(verdict.ok for result in results for verdict in result.values())


def test_a_pre_flight_that_breaks_fails_those_who_joined() -> None:
    """Nobody waits for ever, and nothing is let through."""

    def broken(volumes: Sequence[str]) -> dict[str, Verdict]:
        raise RuntimeError("oops")

    flights = Flights(broken)
    with pytest.raises(RuntimeError):
        flights({"pear": "1"})
    with pytest.raises(RuntimeError):
        flights({"pear": "1"})
