"""Who may see a port of a session in a browser, and at which address.

A server in a worker is the agent's: its pages are as foreign as any. They get an origin of their own, a host
`p-….SUFFIX` (`server.ports_host`), which a secret cookie of that host opens; without such a suffix they come
below `/ports/…`, in a sandbox without an origin, and the address is the secret. Both come from
`/api/sessions/{id}/ports/{port}/`, which asks for the caller's credential, and end with it.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from gateway.config.addresses import host_and_port, is_loopback

KEPT: Final = 4_096
KEPT_OF_OWNER: Final = 64
HOURS: Final = 12
LOCAL_SUFFIX: Final = "localhost"
"""Browsers lead every name below it to their own machine (RFC 6761, 6.3)."""
TICKET: Final = "agw_ticket"


class Opening(Struct, kw_only=True):
    """One port of one session, opened in one browser."""

    owner: str
    session_id: str
    key: str
    port: int
    until: float
    """On the clock that is never set."""
    is_standing: Callable[[], bool]
    """Whether the credential that opened it is still good."""
    secret: str
    """What the cookie holds."""
    ticket: str
    """What the first request shows to get the cookie; empty once it was used."""


class Openings:
    """See the module: label → opening, the oldest first."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._known: OrderedDict[str, Opening] = OrderedDict()

    def open(
        self, *, owner: str, session_id: str, key: str, port: int, is_standing: Callable[[], bool], node: int
    ) -> str:
        """The label of a new one. The oldest goes if there are too many, of this owner or of all. `node`: the
        gateway that this is, which the label names, where several share a store.
        """
        own = [label for label, each in self._known.items() if each.owner == owner]
        for label in own[: max(0, len(own) + 1 - KEPT_OF_OWNER)]:
            del self._known[label]
        while len(self._known) >= KEPT:
            self._known.popitem(last=False)
        label = f"p-{_mark(node) if node else secrets.token_hex(4)}{secrets.token_hex(12)}"
        self._known[label] = Opening(
            owner=owner,
            session_id=session_id,
            key=key,
            port=port,
            until=self._monotonic() + HOURS * 3600,
            is_standing=is_standing,
            secret=secrets.token_urlsafe(24),
            ticket=secrets.token_urlsafe(24),
        )
        return label

    def find(self, label: str) -> Opening | None:
        """The opening of this label, unless it has ended or its credential has."""
        found = self._known.get(label)
        if found is None:
            return None
        if self._monotonic() < found.until and found.is_standing():
            return found
        del self._known[label]
        return None

    def ticket(self, label: str) -> str:
        """What the first request to its host shows."""
        return self._known[label].ticket

    def redeem(self, opening: Opening, ticket: str) -> bool:
        """Whether this is its ticket, which is good once."""
        is_right = bool(opening.ticket) and hmac.compare_digest(opening.ticket.encode(), ticket.encode())
        if is_right:
            opening.ticket = ""
        return is_right


def is_of(label: str, node: int) -> bool:
    """Whether a label may be that of an opening at this gateway."""
    return label.startswith(f"p-{_mark(node)}")


def _mark(node: int) -> str:
    return f"{node & 0xFFFF_FFFF:08x}"


def suffix_of(setting: str, host: str) -> str | None:
    """What follows the label in the host of an opening, with its port; None: there is no such host.

    `setting` is `server.ports_host`, `host` the Host that the caller asked.
    """
    if setting == "none":
        return None
    if setting != "auto":
        return setting.removeprefix("*.")
    name, port = host_and_port(host)
    if not is_loopback(name):
        return None
    return f"{LOCAL_SUFFIX}:{port}" if port else LOCAL_SUFFIX
