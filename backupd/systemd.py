"""Tells systemd how the service is, in the words of sd_notify(3); without systemd it tells nobody."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress


class Supervisor:
    """The systemd that started this process, if one did.

    A service that has said it is ready and whose unit has WatchdogSec= must call `alive` at least every
    `watchdog_seconds` (None: it need not), or it is killed. Calls never fail.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # an abstract socket's name begins with a zero byte, which a variable cannot hold
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = _watchdog(environ)
        self._told = ""

    def ready(self) -> None:
        """The service is up, or up again after `reloading`."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """The settings are read again."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service ends."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """The service does what it is there for."""
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """What a person reads in `systemctl status`: one line."""
        if text != self._told:
            self._tell(f"STATUS={text}")
            self._told = text

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            notify.sendto(message.encode(), self._address)


def _watchdog(environ: Mapping[str, str]) -> float | None:
    """The time of the unit's WatchdogSec=, if it is meant for this process."""
    try:
        seconds = int(environ["WATCHDOG_USEC"]) / 1e6
        meant = int(environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return seconds if seconds > 0 and meant == os.getpid() else None
