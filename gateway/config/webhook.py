"""The table `[webhook]`: one address that hears when somebody should look (docs/webhook.md)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gateway.config.table import Table

if TYPE_CHECKING:
    from gateway.config.tables import Config

KEY_PREFIX: Final = "whsec_"
KEY_BYTES: Final = (24, 64)
"""What Standard Webhooks allows."""
PERMISSION_WAITS: Final = "permission.waiting"
QUESTION_WAITS: Final = "question.waiting"
TURN_UNWATCHED: Final = "turn.ended_unwatched"
CORE_EVENTS: Final = (PERMISSION_WAITS, QUESTION_WAITS, TURN_UNWATCHED)
"""Those of the gateway itself; applications declare their own."""


class WebhookConfig(Table, frozen=True, kw_only=True):
    """Where to say that somebody should look."""

    url: str = ""
    """Gets a POST for each event; empty: nothing is sent."""
    secret: str = ""
    """What each request is signed with: `whsec_` and 24 to 64 bytes in Base64."""
    secret_file: str = ""
    """A file that holds the secret, instead of `secret`."""
    waits_minutes: float = 5
    """A permission request or a question that waits so long for its answer is an event."""
    events: tuple[str, ...] = ()
    """The events that are sent, by name; empty: all of them."""
    allow_private: bool = False
    """Lets `url` lead to a private address, such as one of this machine."""

    def contradictions(self, config: Config) -> Iterator[str]:
        """An address that cannot be called, or nothing to sign with."""
        if self.waits_minutes <= 0:
            yield "waits_minutes: must be more than 0"
        if not self.url:
            return
        if not _is_callable(self.url):
            yield "url: write https://HOST/PATH, without a user or a password"
        if not self.secret:
            yield "secret: name one, or a secret_file, so that the receiver can tell who calls"
        elif key_of(self.secret) is None:
            yield f"secret: is {KEY_PREFIX} and {KEY_BYTES[0]} to {KEY_BYTES[1]} bytes in Base64"

    def wants(self, event: str) -> bool:
        """True if an event of this name is sent."""
        return bool(self.url) and (not self.events or event in self.events)


def _is_callable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:  # half an IPv6 address, a port that there is not
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and has_port


def key_of(secret: str) -> bytes | None:
    """The bytes of a secret; None if it is none."""
    try:
        key = base64.b64decode(secret.removeprefix(KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    is_long_enough = KEY_BYTES[0] <= len(key) <= KEY_BYTES[1]
    return key if secret.startswith(KEY_PREFIX) and is_long_enough else None
