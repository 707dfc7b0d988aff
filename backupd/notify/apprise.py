"""Notices through apprise: mail, chats, phones. An optional extra, imported only where it is used."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from backupd.errors import ConfigError
from backupd.notify.notice import Notice
from backupd.notify.post import NotDelivered


class Apprise:
    """One address of apprise (`mailto://…`); `number` is its place in the settings, since it is a secret."""

    def __init__(self, url: str, number: int) -> None:
        """`ConfigError` where apprise is not installed or does not know such an address."""
        self.name = f"apprise {number} ({urlsplit(url).scheme})"
        self._target: Any = _library().Apprise()
        if not self._target.add(url):
            raise ConfigError(
                f"notify.apprise: number {number} is no address that apprise knows",
                hint="https://github.com/caronc/apprise/wiki has the forms",
            )

    def send(self, notice: Notice) -> None:
        """Deliver one; `NotDelivered` where that fails."""
        kind = {"recovered": "success", "test": "info", "gaps": "info"}.get(notice.kind, "failure")
        try:
            arrived = self._target.notify(title=notice.title, body=notice.body, notify_type=kind)
        except Exception as error:  # its plugins are many, and what they raise is not written down
            raise NotDelivered(f"{self.name} failed: {type(error).__name__}", again=True) from None
        if not arrived:
            raise NotDelivered(f"{self.name} did not accept the message", again=True)


def _library() -> Any:
    # It logs addresses in part, and bodies of answers.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    try:
        import apprise
    except ImportError:
        raise ConfigError(
            "notify.apprise is set and apprise is not installed", hint="pip install 'backupd[apprise]'"
        ) from None
    return apprise
