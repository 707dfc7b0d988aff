"""The gate's process: sockets, bytes, and what it brings along."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from backupd.gate.__main__ import main
from backupd.gate.asking import ask
from backupd.gate.preflight import Preflight
from backupd.gate.trouble import Trouble

SAID = '{"volumes": {"pear": {"ok": true}, "plum": {"ok": false, "reason": "full", "hint": "make room"}}}'


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """The socket of a gate whose engine and daemon are away."""
    path = tmp_path / "gate.sock"
    command = [
        sys.executable,
        "-m",
        "backupd.gate",
        "--socket",
        str(path),
        "--docker",
        str(tmp_path / "none"),
    ]
    process = subprocess.Popen(command)
    try:
        _await(path)
        yield path
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def _await(path: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        with suppress(Trouble):
            ask(path, "POST", "/Plugin.Activate", timeout=60)
            return
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)


def _say(path: Path, text: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(path))
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as stream:
            return stream.read()


def test_it_answers_one_request_after_the_other(served: Path) -> None:
    """The engine keeps its connections."""
    one = b"POST /Plugin.Activate HTTP/1.1\r\nHost: plugin.moby.localhost\r\nContent-Length: 0\r\n\r\n"
    assert _say(served, one * 3).count(b'{"Implements":["authz"]}') == 3


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Le",
    ],
)
def test_what_is_no_request_is_refused(served: Path, text: bytes) -> None:
    """An error is a denial for the engine; the next connection is none the worse for it."""
    assert _say(served, text).startswith(b"HTTP/1.1 400 ")
    assert ask(served, "POST", "/AuthZPlugin.AuthZRes", {}, timeout=60) == (200, {"Allow": True})


def test_a_body_that_is_cut_is_malformed(served: Path) -> None:
    """What is missing may have been the name of a volume."""
    cut = b'POST /AuthZPlugin.AuthZReq HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"RequestMethod":"GET"'
    assert b'"Allow": false' in _say(served, cut)


def test_its_socket_is_for_its_user_alone(served: Path) -> None:
    """Who may talk to it may give leave to remove."""
    assert served.stat().st_mode & 0o777 == 0o600


def test_it_does_not_take_the_place_of_one_that_answers(
    served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second one says so and ends."""
    assert main(["--socket", str(served)]) == 1
    assert "another process answers there" in capsys.readouterr().err


def test_it_takes_the_socket_that_systemd_hands_over(tmp_path: Path) -> None:
    """Bound before the process starts: requests wait for it instead of failing."""
    path = tmp_path / "handed.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        # what systemd does: the socket as descriptor 3, and the process id in the environment
        script = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3);"
            "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())};"
            "os.execv(sys.executable, [sys.executable, '-m', 'backupd.gate'])"
        )
        number = listener.fileno()
        process = subprocess.Popen([sys.executable, "-c", script, str(number)], pass_fds=[number])
        try:
            assert ask(path, "POST", "/Plugin.Activate", timeout=60) == (200, {"Implements": ["authz"]})
        finally:
            process.terminate()
            process.wait(60)


def test_nothing_is_imported_but_the_standard_library() -> None:
    """So it starts in a moment, and no other package's change can keep the engine from answering."""
    script = (
        "import sys; before = set(sys.modules); import backupd.gate.__main__;"
        "print([m for m in set(sys.modules) - before if m.partition('.')[0] not in sys.stdlib_module_names"
        " and not m.startswith('backupd.gate') and m != 'backupd'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _answering(tmp_path: Path, response: bytes) -> Path:
    """A daemon that says this to whoever comes first, and ends."""
    path = tmp_path / "daemon.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def answer() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(response)

    threading.Thread(target=answer, daemon=True).start()
    return path


def _command(tmp_path: Path, said: str, errors: str = "", code: int = 0) -> list[str]:
    script = tmp_path / "backupd"
    script.write_text(f"#!/bin/sh\necho '{said}'\necho '{errors}' >&2\nexit {code}\n")
    script.chmod(0o755)
    return [str(script), "guard", "preflight"]


def test_the_daemon_is_asked_first(tmp_path: Path) -> None:
    """Its verdicts are taken as they are; a volume of which it says nothing stays."""
    daemon = _answering(tmp_path, b"HTTP/1.1 200 OK\r\n\r\n" + SAID.encode())
    verdicts = Preflight(daemon, ["/nonexistent"])(["pear", "plum", "apple"])
    assert [verdicts[name].ok for name in ("pear", "plum", "apple")] == [True, False, False]
    assert (verdicts["plum"].reason, verdicts["plum"].hint) == ("full", "make room")


@pytest.mark.parametrize("response", [b"", b"HTTP/1.1 404 Not Found\r\n\r\n", b"HTTP/1.1 500 Oops\r\n\r\n{}"])
def test_a_daemon_that_fails_is_replaced_by_a_backup_of_ones_own(tmp_path: Path, response: bytes) -> None:
    """Away, killed in the middle, or too old to know the question."""
    daemon = _answering(tmp_path, response)
    verdicts = Preflight(daemon, _command(tmp_path, SAID, code=1))(["pear", "plum"])
    assert [verdicts[name].ok for name in ("pear", "plum")] == [True, False]


@pytest.mark.parametrize(
    ("said", "errors", "reason"),
    [
        ("", '{"error": "no repository", "hint": null, "exit_code": 1}', "no repository"),
        ("", "Segmentation fault", "Segmentation fault"),
        ("[]", "", "cannot be understood"),
        ('{"volumes": {"pear": {"ok": "true"}}}', "", "no reason"),
    ],
)
def test_a_backup_that_fails_lets_nothing_go(tmp_path: Path, said: str, errors: str, reason: str) -> None:
    """Only a plain yes is one."""
    verdict = Preflight(tmp_path / "away", _command(tmp_path, said, errors, 1))(["pear"])["pear"]
    assert not verdict.ok
    assert reason in (verdict.reason or "no reason")


def test_a_backup_that_does_not_even_start_lets_nothing_go(tmp_path: Path) -> None:
    """The reason says which program is missing."""
    verdict = Preflight(tmp_path / "away", [os.fspath(tmp_path / "missing")])(["pear"])["pear"]
    assert not verdict.ok
    assert "missing" in (verdict.reason or "")
