"""Questions over unix sockets: to the Docker Engine, and to the daemon. Standard library only."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from backupd.gate.trouble import Trouble

ENGINE_SECONDS = 60
"""How long the engine may take for a list or a look at one volume."""


def ask(path: Path, method: str, target: str, body: Any = None, *, timeout: float | None) -> tuple[int, Any]:
    """The status and the JSON of the answer; None where it is no JSON.

    Without a timeout the answer is waited for as long as the other side lives. `Trouble` if none comes.
    HTTP/1.0, because then an answer is what comes until the end, and importing http.client takes longer than
    everything else does until the gate answers.
    """
    sent = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {target} HTTP/1.0\r\nHost: localhost\r\n"
    if sent:
        head += f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(f"{head}\r\n".encode() + sent)
            with connection.makefile("rb") as stream:
                received = stream.read()
    except OSError as error:
        raise Trouble(f"{path} does not answer: {error}") from error
    top, _, content = received.partition(b"\r\n\r\n")
    words = top.split(None, 2)
    if len(words) < 2 or not words[1].isdigit():
        raise Trouble(f"{path} ended the connection without an answer")
    return int(words[1]), _parsed(content)


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


class Engine:
    """The few questions that the gate has for the Docker Engine; they pass the gate as well."""

    def __init__(self, socket_path: Path) -> None:
        self._socket = socket_path

    def created(self, volume: str) -> str | None:
        """When the volume was created, in the engine's words; None if there is none of that name."""
        status, answer = self._get(f"/volumes/{quote(volume, safe='')}", allowed=(200, 404))
        return None if status == 404 else str(answer.get("CreatedAt", ""))

    def prunable(self) -> list[str]:
        """The volumes that no container refers to."""
        _, answer = self._get("/volumes?" + _filters(dangling=["true"]))
        return [each["Name"] for each in answer.get("Volumes") or ()]

    def foreign(self) -> list[str]:
        """The volumes that the engine's own driver does not keep."""
        _, answer = self._get("/volumes")
        return [each["Name"] for each in answer.get("Volumes") or () if each["Driver"] != "local"]

    def helpers(self, volume: str) -> list[str]:
        """The helpers of backupd that refer to the volume."""
        target = "/containers/json?all=1&" + _filters(volume=[volume], label=["backupd.helper"])
        _, answer = self._get(target)
        return [each["Id"] for each in answer]

    def _get(self, target: str, allowed: tuple[int, ...] = (200,)) -> tuple[int, Any]:
        status, answer = ask(self._socket, "GET", target, timeout=ENGINE_SECONDS)
        if status not in allowed or answer is None:
            said = answer.get("message") if isinstance(answer, dict) else None
            raise Trouble(f"the engine answered {status} to {target}" + (f": {said}" if said else ""))
        return status, answer


def _filters(**filters: list[str]) -> str:
    return urlencode({"filters": json.dumps(filters)})
