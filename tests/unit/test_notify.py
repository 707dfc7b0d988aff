from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from backupd.errors import ConfigError
from backupd.health import Health, Problem
from backupd.ledger import Ledger
from backupd.notify.apprise import Apprise
from backupd.notify.channels import Outbox, attempt, channels
from backupd.notify.delivery import LIMIT, Delivery
from backupd.notify.notice import Notice
from backupd.notify.ping import Ping
from backupd.notify.post import NotDelivered
from backupd.notify.reporter import Reporter
from backupd.notify.wording import test as a_test
from backupd.notify.wording import unprotected
from tests.listener import Listener, listening
from tests.unit.records import NOON, run, watched

# apprise asks for a module that Python will lose; it does without where that is gone.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

SECRET = "very-secret-part"


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A server."""
    with listening() as made:
        yield made


def notice(text: str = "text") -> Notice:
    """A message."""
    return Notice("failed", "db1", NOON, "subject", text, volume="shop", hint="do")


def until_idle(delivery: Delivery[Notice]) -> None:
    """Have everything leave, or be given up."""
    delivery.close(60)


def test_a_webhook_gets_the_notice_as_json(listener: Listener) -> None:
    """Without a secret unsigned."""
    [send] = channels(f"{listener.url}/hook?x=1", None, ()).values()
    assert attempt(send, notice()) is None
    [request] = listener.wait_for(1)
    assert (request.method, request.path) == ("POST", "/hook?x=1")
    assert request.headers["Content-Type"] == "application/json"
    assert "Backupd-Signature" not in request.headers
    assert json.loads(request.body) == notice().as_json()


def test_a_webhook_with_a_secret_signs_what_it_sends(listener: Listener) -> None:
    """Who knows the secret can tell that it came from here."""
    [send] = channels(listener.url, "key", ()).values()
    attempt(send, notice("ä"))
    [request] = listener.wait_for(1)
    signature = hmac.new(b"key", request.body, hashlib.sha256).hexdigest()
    assert request.headers["Backupd-Signature"] == f"sha256={signature}"


def test_apprise_delivers_what_people_read(listener: Listener) -> None:
    """By an address of its own making, which is only a number and a scheme to everybody else."""
    address = f"json://user:{SECRET}@127.0.0.1:{listener.port}/x"
    [(name, send)] = channels(None, None, [address]).items()
    assert name == "apprise 1 (json)"
    assert attempt(send, notice()) is None
    [request] = listener.wait_for(1)
    told = json.loads(request.body)
    assert told["title"] == "backupd on db1: subject"
    assert told["message"] == "text\nWhat to do: do"
    assert told["type"] == "failure"


def test_an_address_that_apprise_does_not_know_is_refused_and_not_repeated() -> None:
    """I21: it may hold a password."""
    with pytest.raises(ConfigError) as caught:
        Apprise(f"nonsense://{SECRET}", 2)
    assert caught.value.message == "notify.apprise: number 2 is no address that apprise knows"
    assert SECRET not in f"{caught.value.hint}"


def test_an_apprise_that_fails_is_told_without_its_address(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """I21: nothing of it is in the error, nor in what apprise would log."""
    listener.answers = [500] * 10
    caplog.set_level(logging.DEBUG)
    [send] = channels(None, None, [f"json://user:{SECRET}@127.0.0.1:{listener.port}/{SECRET}"]).values()
    error = attempt(send, notice())
    assert error == "apprise 1 (json) did not accept the message"
    assert not [record for record in caplog.records if record.name.startswith("apprise")]


@pytest.mark.parametrize(
    ("code", "again"), [(404, False), (401, False), (429, True), (500, True), (503, True)]
)
def test_an_answer_says_whether_it_is_worth_another_try(listener: Listener, code: int, again: bool) -> None:
    """A wrong address does not become right by waiting."""
    listener.answers = [code]
    [send] = channels(f"{listener.url}/{SECRET}", None, ()).values()
    with pytest.raises(NotDelivered) as caught:
        send(notice())
    assert str(caught.value) == f"127.0.0.1 answered {code}"
    assert caught.value.again is again


def test_nobody_who_listens_is_worth_another_try() -> None:
    """I21: the error names the machine and nothing of the address."""
    with listening() as gone:
        url = f"{gone.url}/{SECRET}"
    [send] = channels(url, None, ()).values()
    with pytest.raises(NotDelivered) as caught:
        send(notice())
    assert str(caught.value).startswith("127.0.0.1 cannot be reached: ")
    assert SECRET not in str(caught.value)
    assert caught.value.again


def test_what_fails_is_tried_again_and_order_is_kept(listener: Listener) -> None:
    """A server that stumbles gets everything in the end."""
    listener.answers = [503, 503]
    [send] = channels(listener.url, None, ()).values()
    delivery = Delivery("webhook", send)
    delivery.put(notice("first"))
    delivery.put(notice("second"))
    texts = [json.loads(request.body)["text"] for request in listener.wait_for(4)]
    assert texts == ["first", "first", "first", "second"]
    until_idle(delivery)
    assert delivery.undelivered == 0
    assert delivery.error is None


def test_what_cannot_arrive_is_counted_and_named_in_the_log(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """And the next message is tried all the same."""
    listener.answers = [404]
    [send] = channels(f"{listener.url}/{SECRET}", None, ()).values()
    delivery = Delivery("webhook", send)
    delivery.put(notice("first"))
    delivery.put(notice("second"))
    listener.wait_for(2)
    until_idle(delivery)
    assert delivery.undelivered == 1


def test_patience_ends_at_the_deadline(listener: Listener) -> None:
    """A message that is old helps nobody."""
    listener.answers = [503] * 100
    [send] = channels(listener.url, None, ()).values()
    delivery = Delivery("webhook", send, deadline_seconds=0)
    delivery.put(notice())
    listener.wait_for(1)
    until_idle(delivery)
    assert delivery.undelivered == 1
    assert delivery.error == "127.0.0.1 answered 503"


def test_a_server_that_does_not_answer_keeps_nobody_waiting(listener: Listener) -> None:
    """`put` returns whatever the channel does, and memory is bounded: the oldest are given up."""
    listener.hold.clear()
    [send] = channels(listener.url, None, ()).values()
    delivery = Delivery("webhook", send)
    for number in range(LIMIT + 10):
        delivery.put(notice(str(number)))
    assert 9 <= delivery.undelivered <= 10  # one may have left the queue already
    listener.hold.set()
    until_idle(delivery)


def test_a_channel_in_error_does_not_end_the_thread() -> None:
    """A mistake of ours costs one message and is logged."""
    arrived = threading.Event()

    def send(message: Notice) -> None:
        if message.text == "bad":
            raise RuntimeError("mistake")
        arrived.set()

    delivery = Delivery("webhook", send)
    delivery.put(notice("bad"))
    delivery.put(notice("good"))
    assert arrived.wait(60)
    until_idle(delivery)
    assert delivery.undelivered == 1


def test_pings_follow_a_run(listener: Listener, tmp_path: Path) -> None:
    """Start, success, fail in the manner of healthchecks.io, each with a line; what follows a `?` stays."""
    url = f"{listener.url}/uuid?create=1"
    with Outbox({}) as outbox:
        reporter = made(tmp_path, outbox)
        reporter.watch([watched(ping=url), watched("other")])
        for outcome in ("ok", "failed", "degraded", "skipped"):
            reporter.started(run(None))
            reporter.ended(run(outcome), NOON)  # type: ignore[arg-type]
        reporter.started(run(None, "other"))
        requests = listener.wait_for(7)
    assert [request.path for request in requests] == [
        "/uuid/start?create=1",
        "/uuid?create=1",
        "/uuid/start?create=1",
        "/uuid/fail?create=1",
        "/uuid/start?create=1",
        "/uuid/fail?create=1",
        "/uuid/start?create=1",
    ]
    assert b"2048 of 10240 bytes new" in requests[1].body
    assert b"the storage is full" in requests[3].body
    assert b"make room" in requests[3].body


def test_a_heartbeat_says_how_all_is(listener: Listener, tmp_path: Path) -> None:
    """Every five minutes; at once when it changes; with the reasons while not all is well."""
    well = Health(2, (), {})
    problem = Problem("overdue", "shop", "no backup", "do")
    with Outbox({}) as outbox:
        reporter = made(tmp_path, outbox, heartbeat=f"{listener.url}/all")
        reporter.looked(well, [], NOON)
        reporter.looked(well, [], NOON + timedelta(minutes=1))
        reporter.looked(Health(2, (problem,), {}), [], NOON + timedelta(minutes=2))
        reporter.looked(well, [], NOON + timedelta(minutes=3))
        reporter.looked(well, [], NOON + timedelta(minutes=8))
        requests = listener.wait_for(4)
    assert [request.path for request in requests] == ["/all", "/all/fail", "/all", "/all"]
    assert requests[0].body == b"2 volumes protected"
    assert requests[1].body == b"shop: no backup"


def test_a_failure_goes_to_every_channel_and_is_remembered(listener: Listener, tmp_path: Path) -> None:
    """A daemon that is started anew does not tell it again."""
    found = channels(f"{listener.url}/hook", None, [f"json://127.0.0.1:{listener.port}/apprise"])
    for _ in range(2):
        with Outbox(found) as outbox:
            ledger = Ledger(tmp_path)
            reporter = Reporter(ledger, outbox, host="db1", repeat=timedelta(hours=24), heartbeat=None)
            ledger.ended(run("failed"))
            reporter.ended(run("failed"), NOON)
    with Outbox(found) as outbox:
        reporter = made(tmp_path, outbox)
        reporter.ended(run("ok"), NOON)
        requests = listener.wait_for(4)
        assert outbox.undelivered() == {"webhook": 0, "apprise 1 (json)": 0, "ping": 0}
    assert sorted(request.path for request in requests) == ["/apprise", "/apprise", "/hook", "/hook"]
    kinds = [json.loads(request.body)["kind"] for request in requests if request.path == "/hook"]
    assert kinds == ["failed", "recovered"]


def test_an_address_is_in_no_representation() -> None:
    """I21: values end up in logs and tracebacks."""
    assert SECRET not in repr(Ping(f"https://example.org/{SECRET}", "start", "x"))
    assert SECRET not in repr(watched(ping=f"https://example.org/{SECRET}"))


def test_volumes_that_nobody_protects_come_in_one_message() -> None:
    """A machine may have forty of them."""
    told = unprotected("db1", [("a", "nobody asked for it"), ("b", "b is written to by nobody")], NOON)
    assert "2 volumes need a decision" in told.title
    assert "- a: nobody asked for it\n- b is written to by nobody" in told.body


def test_a_test_says_that_it_is_one() -> None:
    """Nobody shall be frightened."""
    assert "test" in a_test("db1", NOON).title


def made(directory: Path, outbox: Outbox, heartbeat: str | None = None) -> Reporter:
    """A reporter with a ledger in a directory."""
    return Reporter(Ledger(directory), outbox, host="db1", repeat=timedelta(hours=24), heartbeat=heartbeat)
