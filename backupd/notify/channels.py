"""All ways out: every notice to each channel, every ping to its address."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from backupd.notify.apprise import Apprise
from backupd.notify.delivery import Delivery
from backupd.notify.notice import Notice
from backupd.notify.ping import Ping, send
from backupd.notify.post import NotDelivered
from backupd.notify.webhook import Webhook

CLOSE_SECONDS = 5.0

Channel = Callable[[Notice], None]


def channels(
    webhook: str | None, webhook_secret: str | None, apprise: Sequence[str]
) -> Mapping[str, Channel]:
    """What the settings name, by a name that holds no secret; `ConfigError` for what cannot work."""
    found: dict[str, Channel] = {}
    if webhook is not None:
        found["webhook"] = Webhook(webhook, webhook_secret).send
    for number, url in enumerate(apprise, start=1):
        target = Apprise(url, number)
        found[target.name] = target.send
    return found


def attempt(channel: Channel, notice: Notice) -> str | None:
    """Deliver once, now; the reason where that fails."""
    try:
        channel(notice)
    except NotDelivered as error:
        return str(error)
    return None


class Outbox(AbstractContextManager["Outbox"]):
    """Sends without ever keeping anybody waiting; at its end what waits is tried once more, briefly."""

    def __init__(self, found: Mapping[str, Channel]) -> None:
        self._notices = [Delivery(name, channel) for name, channel in found.items()]
        self._pings: Delivery[Ping] = Delivery("ping", send)

    def __exit__(self, *_: object) -> None:
        for delivery in self._all():
            delivery.close(CLOSE_SECONDS)

    def tell(self, notice: Notice) -> None:
        """To every channel."""
        for delivery in self._notices:
            delivery.put(notice)

    def ping(self, ping: Ping) -> None:
        """To its address."""
        self._pings.put(ping)

    def undelivered(self) -> Mapping[str, int]:
        """How many messages were given up, by channel."""
        return {delivery.name: delivery.undelivered for delivery in self._all()}

    def troubles(self) -> Mapping[str, str]:
        """The channels whose last message did not arrive, and why."""
        return {delivery.name: delivery.error for delivery in self._all() if delivery.error}

    def _all(self) -> list[Delivery[Any]]:
        return [*self._notices, self._pings]
