"""Notices as JSON to an address of one's own."""

from __future__ import annotations

import hashlib
import hmac
import json

from backupd.notify.notice import Notice
from backupd.notify.post import post

SIGNATURE = "Backupd-Signature"


class Webhook:
    """POSTs each notice; with a secret, signed: `Backupd-Signature: sha256=` and the HMAC of the body."""

    def __init__(self, url: str, secret: str | None = None) -> None:
        self._url = url
        self._secret = secret

    def send(self, notice: Notice) -> None:
        """Deliver one; `NotDelivered` where that fails."""
        body = json.dumps(notice.as_json(), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json"}
        if self._secret:
            headers[SIGNATURE] = "sha256=" + hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
        post(self._url, body, headers)
