"""One HTTP request with something to say; addresses may hold secrets and are in no error."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

from backupd import __version__

TIMEOUT_SECONDS = 10.0


class NotDelivered(Exception):
    """It did not arrive; `again`: the same may work in a moment. The text holds no secret."""

    def __init__(self, text: str, *, again: bool) -> None:
        super().__init__(text)
        self.again = again


def post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """POST to an http or https address; `NotDelivered` unless the answer is 2xx."""
    # The scheme was checked where the address was read.
    request = urllib.request.Request(  # noqa: S310
        url, data=body, headers={"User-Agent": f"backupd/{__version__}", **headers}, method="POST"
    )
    where = urlsplit(url).hostname
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
            pass
    except urllib.error.HTTPError as error:
        error.close()
        again = error.code >= 500 or error.code in (408, 425, 429)
        raise NotDelivered(f"{where} answered {error.code}", again=again) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        text = getattr(reason, "strerror", None) or type(reason).__name__
        raise NotDelivered(f"{where} cannot be reached: {text}", again=True) from None
