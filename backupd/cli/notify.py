"""`backupd notify`."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime

from backupd.cli.output import print_json, print_table, speak
from backupd.errors import BackupdError, ConfigError
from backupd.notify.channels import attempt
from backupd.notify.ping import Ping
from backupd.notify.ping import send as send_ping
from backupd.notify.post import NotDelivered
from backupd.notify.wording import test
from backupd.observer import settings_channels
from backupd.settings import Settings


def run(arguments: Namespace, settings: Settings) -> int:
    """Send a test to every channel and say what became of each; `BackupdError` if one did not arrive."""
    speak(settings)
    notice = test(settings.host, datetime.now(UTC))
    found = settings_channels(settings)
    results = {name: attempt(channel, notice) for name, channel in found.items()}
    if settings.notify.ping:
        results["ping"] = _pinged(settings.notify.ping.get_secret_value())
    if not results:
        raise ConfigError("nobody is told anything", hint="set notify.webhook, notify.apprise or notify.ping")
    if arguments.json:
        print_json(
            [{"channel": name, "delivered": not error, "error": error} for name, error in results.items()]
        )
    else:
        print_table(("CHANNEL", "RESULT"), ((name, error or "delivered") for name, error in results.items()))
    failed = [name for name, error in results.items() if error]
    if failed:
        raise BackupdError(f"not delivered: {', '.join(failed)}", hint="correct the addresses under [notify]")
    return 0


def _pinged(url: str) -> str | None:
    try:
        send_ping(Ping(url, "success", "a test of backupd"))
    except NotDelivered as error:
        return str(error)
    return None
