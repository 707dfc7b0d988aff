from __future__ import annotations

import http.client
import io
import json
import logging
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from backupd import logs
from backupd.errors import BackupdError, ConfigError, DaemonUnreachable
from backupd.health import Watched
from backupd.observer import Observer, answering, observing
from backupd.settings import Settings, load
from backupd.unixhttp import SOCKET, ask
from tests.unit.records import NOON, run, watched

TOKEN = "0123456789abcdef-token"


def settings_of(directory: Path, text: str = "") -> Settings:
    """Settings with a state directory of their own."""
    config = directory / "config.toml"
    config.write_text(f'state_dir = "{directory / "state"}"\nhost = "db1"\n{text}')
    return load(config, {})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a state directory in it."""
    (tmp_path / "state").mkdir()
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return tmp_path


@contextmanager
def observed(settings: Settings) -> Iterator[Observer]:
    """An observer that has seen one volume, which is well."""
    with observing(settings, NOON.tzinfo) as observer:  # type: ignore[arg-type]
        observer.saw([watched(schedule="0 2 1 1 *")])
        yield observer


@contextmanager
def on_tcp(directory: Path, web: str = "") -> Iterator[tuple[str, int]]:
    """The address of a server."""
    settings = settings_of(directory, f'[web]\nlisten = "127.0.0.1:0"\n{web}\n')
    with observed(settings) as observer, answering(settings, observer) as address:
        assert address
        yield address


def get(
    address: tuple[str, int], path: str, headers: dict[str, str] | None = None, host: str = "localhost"
) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of an answer."""
    with closing(http.client.HTTPConnection(*address, timeout=60)) as connection:
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", host)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()}


def refused(address: tuple[str, int], request: bytes) -> bool:
    """Whether a request has no good answer; one that is cut off while it is sent may hear nothing."""
    with closing(socket.create_connection(address, timeout=60)) as connection, suppress(ConnectionError):
        connection.sendall(request)
        return connection.recv(4096).split(b" ")[1:2] in ([b"413"], [b"400"], [])
    return True


BEARER = {"Authorization": f"Bearer {TOKEN}"}


def test_the_socket_answers_without_a_token(directory: Path) -> None:
    """Its mode says who may ask: owner and group."""
    settings = settings_of(directory)
    path = settings.state_dir / SOCKET
    with observed(settings) as observer, answering(settings, observer) as address:
        assert address is None
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert ask(path, "GET", "/healthz") == (200, b"ok\n")
        status, body = ask(path, "GET", "/health")
        assert (status, json.loads(body)) == (200, {"ok": True, "protected": 1, "problems": []})
        status, body = ask(path, "GET", "/metrics")
        assert status == 200
        assert b"\nbackupd_healthy 1\n" in body
        assert ask(path, "GET", "/else")[0] == 404
        assert ask(path, "POST", "/health")[0] == 405
    assert not path.exists()


def test_status_has_what_is_remembered_and_what_the_daemon_says(directory: Path) -> None:
    """Records by volume, health, notices that did not arrive, and the daemon's own part."""
    settings = settings_of(directory)
    with observed(settings) as observer, answering(settings, observer):
        observer.ended(run("failed"))
        observer.gaps({"idle": 2}, [])
        waiting = [{"name": "shop", "volumes": ["shop"]}]
        observer.contribute(
            lambda: {
                "waiting": waiting,
                "running": [],
                "skipped": {"shop": 4},
                "next": {"shop": NOON.isoformat()},
                "daemon": {"engine_away": True},
            }
        )
        status = json.loads(ask(settings.state_dir / SOCKET, "GET", "/status")[1])
        page = ask(settings.state_dir / SOCKET, "GET", "/metrics")[1].decode()
    assert status["waiting"] == waiting
    assert status["health"]["ok"] is True
    assert status["records"]["shop"]["failure"]["error"] == "the storage is full"
    assert status["records"]["shop"]["failing_since"] == "2026-11-25T12:01:00+00:00"
    assert status["unprotected"] == {"idle": 2}
    assert status["notifications"] == {"undelivered": {"ping": 0}, "troubles": {}}
    assert "\nbackupd_runs_waiting 1\n" in page
    assert "\nbackupd_engine_up 0\n" in page
    assert '\nbackupd_volume_skipped_total{volume="shop"} 4\n' in page
    assert f'\nbackupd_volume_next_run_timestamp_seconds{{volume="shop"}} {NOON.timestamp():.0f}\n' in page


def test_what_is_wrong_is_told_with_its_reason(directory: Path) -> None:
    """S5: 503, and to anybody only how much it is."""
    settings = settings_of(directory)
    with observing(settings, NOON.tzinfo) as observer, answering(settings, observer):  # type: ignore[arg-type]
        path = settings.state_dir / SOCKET
        assert ask(path, "GET", "/healthz") == (503, b"not ok: 1 problem\n")
        assert json.loads(ask(path, "GET", "/health")[1])["problems"][0]["kind"] == "starting"
        observer.saw([Watched("a", None, ("no schedule",)), Watched("b", None, ("no schedule",))])
        assert ask(path, "GET", "/healthz") == (503, b"not ok: 2 problems\n")
        first = json.loads(ask(path, "GET", "/health")[1])["problems"][0]
        assert (first["kind"], first["volume"], first["text"]) == (
            "misconfigured",
            "a",
            "not backed up: no schedule",
        )


def test_a_socket_that_was_left_behind_is_replaced(directory: Path) -> None:
    """A daemon that was killed leaves its own."""
    settings = settings_of(directory)
    path = settings.state_dir / SOCKET
    with closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(path))
    with observed(settings) as observer, answering(settings, observer):
        assert ask(path, "GET", "/healthz")[0] == 200


def test_a_state_directory_with_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    """The kernel takes 107 characters for a socket's path."""
    deep = tmp_path / ("x" * 120)
    (deep / "state").mkdir(parents=True)
    settings = settings_of(deep)
    with observed(settings) as observer, answering(settings, observer):
        assert ask(settings.state_dir / SOCKET, "GET", "/healthz")[0] == 200


def test_nobody_there_is_said_with_the_path(tmp_path: Path) -> None:
    """Neither a missing socket nor one without a daemon raises anything else."""
    with pytest.raises(DaemonUnreachable, match=r"does not answer on .*backupd.sock: No such file"):
        ask(tmp_path / SOCKET, "GET", "/healthz")
    with closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(tmp_path / SOCKET))
    with pytest.raises(DaemonUnreachable, match="Connection refused"):
        ask(tmp_path / SOCKET, "GET", "/healthz")


def test_tcp_tells_nothing_but_health_without_a_token_file(directory: Path) -> None:
    """Loopback or not: who has a shell on the machine is not who may know."""
    with on_tcp(directory) as address:
        status, body, headers = get(address, "/healthz")
        assert (status, body) == (200, "ok\n")
        assert "server" not in headers
        for path in ("/health", "/metrics", "/status", "/healthz/", "//healthz", "/else"):
            assert get(address, path)[0] == 403, path
        assert get(address, "/metrics", BEARER)[0] == 403


def test_tcp_takes_the_token(directory: Path) -> None:
    """And nothing that resembles it."""
    with on_tcp(directory, f'token_file = "{directory}/token"') as address:
        assert get(address, "/healthz")[0] == 200
        assert get(address, "/metrics", BEARER)[0] == 200
        assert get(address, "/status", {"authorization": f"bearer {TOKEN}"})[0] == 200
        assert json.loads(get(address, "/health", BEARER)[1])["ok"] is True
        for wrong in (
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            "Bearer",
            "Bearer ",
            f"Basic {TOKEN}",
            TOKEN,
            "",
        ):
            status, _, headers = get(address, "/metrics", {"Authorization": wrong})
            assert (status, headers["www-authenticate"]) == (401, "Bearer"), wrong
        assert get(address, "/metrics", {**BEARER, "authorization": "Bearer x"})[0] == 401


def test_tcp_answers_to_names_that_it_knows_only(directory: Path) -> None:
    """A page in a browser whose own name resolves to this address gets nothing, not even health."""
    with on_tcp(directory, f'token_file = "{directory}/token"\nhosts = ["Backup.example.org"]') as address:
        known = ("localhost", "LOCALHOST:1", "127.0.0.1", "10.0.0.1:80", "[::1]:80", "backup.example.org:9")
        for name in known:
            assert get(address, "/healthz", host=name)[0] == 200, name
        for name in ("evil.example.org", "localhost.evil.example.org", "", "10.0.0.1.example.org", "::1:80"):
            assert get(address, "/healthz", host=name)[0] == 421, name
            assert get(address, "/metrics", BEARER, host=name)[0] == 421, name


def test_what_changes_things_is_served_on_the_socket_only(directory: Path) -> None:
    """Routes that the daemon adds are not for the network."""
    settings = settings_of(directory, f'[web]\nlisten = "127.0.0.1:0"\ntoken_file = "{directory}/token"\n')
    with observed(settings) as observer, answering(settings, observer, [echo()]) as address:
        assert address
        assert ask(settings.state_dir / SOCKET, "POST", "/echo", b"hello") == (200, b"hello")
        assert get(address, "/echo", BEARER)[0] == 404


def test_large_requests_are_refused(directory: Path) -> None:
    """Whether their length is announced or not; the next one is answered."""
    settings = settings_of(directory, '[web]\nlisten = "127.0.0.1:0"\n')
    with observed(settings) as observer, answering(settings, observer, [echo()]) as address:
        assert address
        path = settings.state_dir / SOCKET
        assert ask(path, "POST", "/echo", b"x" * 65536) == (200, b"x" * 65536)
        assert ask(path, "POST", "/echo", b"x" * 65537)[0] == 413
        chunk = b"2328\r\n" + b"x" * 9000 + b"\r\n"
        head = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n"
        assert refused(address, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 9)
        assert refused(address, head + b"X-Long: " + b"x" * 1_000_000)
        assert get(address, "/healthz")[0] == 200


def test_what_is_no_request_is_refused(directory: Path) -> None:
    """And harms nobody."""
    with on_tcp(directory) as address:
        with closing(socket.create_connection(address, timeout=60)) as connection:
            connection.sendall(b"\x16\x03\x01 no request\r\n\r\n")
            assert b" 400 " in connection.recv(4096)
        assert get(address, "/healthz")[0] == 200


def test_a_mistake_in_an_answer_tells_the_client_nothing(directory: Path) -> None:
    """I21: no traceback, no values."""
    settings = settings_of(directory)
    with observed(settings) as observer, answering(settings, observer):
        observer.contribute(lambda: {}["secret"])
        assert ask(settings.state_dir / SOCKET, "GET", "/status") == (500, b"Internal Server Error")
        assert ask(settings.state_dir / SOCKET, "GET", "/healthz")[0] == 200


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), ("", "less than 16"), ("short", "less than 16")]
)
def test_a_token_that_cannot_be_one_is_refused(directory: Path, content: str | None, said: str) -> None:
    """An empty file must not mean that everybody may."""
    if content is not None:
        (directory / "weak").write_text(content)
    with pytest.raises(ConfigError, match=said), on_tcp(directory, f'token_file = "{directory}/weak"'):
        pass


def test_an_address_that_is_taken_is_an_error_with_a_way_out(directory: Path) -> None:
    """The daemon does not start without what was asked for."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        settings = settings_of(directory, f'[web]\nlisten = "{port}"\n')
        with (
            observed(settings) as observer,
            pytest.raises(BackupdError, match=f"cannot listen on 127.0.0.1 port {port}") as caught,
            answering(settings, observer),
        ):
            pass
    assert caught.value.hint


@pytest.mark.parametrize(
    ("listen", "address"),
    [("9180", ("127.0.0.1", 9180)), (":9180", ("127.0.0.1", 9180)), ("0.0.0.0:1", ("0.0.0.0", 1)),
     ("[::]:9180", ("::", 9180)), ("db1:9180", ("db1", 9180))],
)  # fmt: skip
def test_where_to_listen_is_written_as_people_do(
    directory: Path, listen: str, address: tuple[str, int]
) -> None:
    """A port alone is one of localhost."""
    assert settings_of(directory, f'[web]\nlisten = "{listen}"\n').web.address() == address


@pytest.mark.parametrize("listen", ["", "localhost", "db1:http", "::1:9180", "1.2.3.4:70000"])
def test_where_nobody_can_listen_is_refused(directory: Path, listen: str) -> None:
    """With the way it is written."""
    with pytest.raises(ConfigError, match="should be a port"):
        settings_of(directory, f'[web]\nlisten = "{listen}"\n')


def test_the_server_leaves_signals_and_logs_alone(directory: Path) -> None:
    """They are the daemon's."""
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        logs.configure("json", "info", stream)
        with on_tcp(directory) as address:
            get(address, "/healthz")
            assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
            assert len(root.handlers) == 1
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert stream.getvalue() == ""


def echo() -> Route:
    """A route of the daemon's."""

    async def answer(request: Request) -> Response:
        return PlainTextResponse(await request.body())

    return Route("/echo", answer, methods=["POST"])
