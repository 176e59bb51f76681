"""What one gateway says to another with a request that it passes on: who asks, of what, and to whom it goes.

Guarantees: a ticket is signed with the secret that all gateways of a store share; it is good for one
request, this method at this address, at this one gateway, once, for half a minute by the clock of the store.
What the clocks of the gateways' machines say does not matter.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from gateway.auth.tickets import Tickets
from gateway.principal import Principal

HEADER: Final = b"x-agw-forwarded"
SECONDS: Final = 30.0
"""How long a ticket is good, by the clock of the store, and how far from it gateways may be."""
SIGNED_SECONDS: Final = 24 * 3600.0
"""How long its signature is good, by the clocks of their machines."""
REMEMBERED_MS: Final = round(2 * SECONDS * 1000)
"""No ticket is taken that is older or newer, so none has to be remembered for longer once it was used."""


class Said(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a ticket says besides the principal."""

    edge: int
    """The gateway that passes the request on, by the id of its row."""
    to: int
    """The gateway that it is meant for."""
    mark: str
    """What an answer to the gateway itself, not to its caller, says."""
    asked: str
    """A digest of method, address and host."""
    at: int = 0
    """When it was written, in milliseconds since 1970 UTC, by the clock of the store."""
    request_id: str = ""
    client: str = ""
    peer: str = ""
    scheme: str = "http"
    is_new_visitor: bool = False
    is_at_machine: bool = False
    has_met: bool = False
    met: Principal | None = None
    stands_until_ms: float | None = None


class ShownTicket(Struct, frozen=True):
    """A good ticket."""

    said: Said
    principal: Principal | None
    issued_at: int


class TicketUnfit(Exception):
    """It does not let this request in; the text says why."""


_SAID: Final = "said"
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Said).decode


class NodeTickets:
    """Writes and reads them."""

    def __init__(self, tickets: Tickets, *, shared_ms: Callable[[], int]) -> None:
        """`shared_ms` is the clock that all gateways of a store have in common."""
        self._tickets = tickets
        self._shared_ms = shared_ms
        self._used: set[str] = set()
        self._used_before: set[str] = set()
        self._turn_at = 0

    def write(self, said: Said, principal: Principal | None) -> str:
        """A ticket for one request."""
        extra = {_SAID: _encode(msgspec.structs.replace(said, at=self._shared_ms())).decode()}
        return self._tickets.issue("node", seconds=SIGNED_SECONDS, principal=principal, extra=extra)

    def read(self, text: str, *, asked: str) -> ShownTicket:
        """What a ticket says, which is used up by it. Raises TicketUnfit."""
        ticket, now = self._tickets.read_once("node", text), self._shared_ms()
        if ticket is None:
            raise TicketUnfit(
                "The ticket was not signed with this gateway's secret: all gateways of a store need the same "
                "auth.secret_file. Or the clocks of their machines are a day apart."
            )
        try:
            said = _decode(ticket.extra.get(_SAID, ""))
        except msgspec.DecodeError:
            raise TicketUnfit("This version of the gateway does not understand the ticket.") from None
        if abs(now - said.at) > SECONDS * 1000:
            raise TicketUnfit(
                f"The ticket was not written in the last {SECONDS:g} s, by the clock of the store: the "
                "request was held up, or one of the gateways has not heard of the store for so long."
            )
        if said.asked != asked:
            raise TicketUnfit("The ticket was written for another request.")
        if not self._use(ticket.nonce, now):
            raise TicketUnfit("The ticket was used before.")
        return ShownTicket(said, ticket.principal, ticket.issued_at)

    def _use(self, nonce: str, now: int) -> bool:
        """Remembers one that is used; False if it was before."""
        if now >= self._turn_at:
            self._used, self._used_before = set(), self._used if self._turn_at else set()
            self._turn_at = now + REMEMBERED_MS
        if nonce in self._used or nonce in self._used_before:
            return False
        self._used.add(nonce)
        return True


def new_mark() -> str:
    """One that nobody can guess."""
    return secrets.token_hex(8)


def digest(kind: str, method: str, target: bytes, host: bytes) -> str:
    """What a ticket is written for: "http" or "websocket", the method, path and query, and the Host."""
    text = b"\0".join((kind.encode(), method.encode(), target, host))
    return hashlib.sha256(text).hexdigest()[:32]
