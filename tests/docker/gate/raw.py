"""Requests to an engine, byte by byte: no client stands between the test and the target it writes."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any


def send(
    path: Path, method: str, target: str, body: bytes = b"", content_type: str = ""
) -> tuple[int, bytes]:
    """The status and the body of the answer; status 0 where the engine only closes the connection."""
    head = f"{method} {target} HTTP/1.0\r\nHost: localhost\r\n"
    if body:
        head += f"Content-Length: {len(body)}\r\nContent-Type: {content_type}\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(240)
        client.connect(str(path))
        # who has answered already need not read the body
        with suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(f"{head}\r\n".encode() + body)
        answer = _everything(client)
    top, _, content = answer.partition(b"\r\n\r\n")
    return (int(top.split()[1]) if top else 0), content


def _everything(client: socket.socket) -> bytes:
    received = bytearray()
    with suppress(ConnectionResetError):
        while piece := client.recv(65536):
            received += piece
    return bytes(received)


def make_volume(path: Path, name: str, **labels: str) -> None:
    """Make a volume."""
    body = json.dumps({"Name": name, "Labels": labels}).encode()
    status, answer = send(path, "POST", "/volumes/create", body, "application/json")
    assert status == 201, answer


def has_volume(path: Path, name: str) -> bool:
    """Is there a volume of that name?"""
    return send(path, "GET", f"/volumes/{name}")[0] == 200


def created(path: Path, target: str, body: dict[str, Any]) -> str:
    """The id of what a POST made."""
    status, answer = send(path, "POST", target, json.dumps(body).encode(), "application/json")
    assert status == 201, answer
    return str(json.loads(answer)["Id"])
