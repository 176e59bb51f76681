"""What a request carries through the gateway beside what ASGI says of it, under one key of its scope."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from msgspec import Struct, field

from gateway.auth.permits import Permit
from gateway.errors import GatewayError
from gateway.principal import Principal
from gateway.workers.peer_identity import ELSEWHERE, PeerOrigin

_KEY: Final = "agent_gateway"


class BodyRules(Struct, frozen=True):
    """How long a body may be, and how long nothing of it may arrive; it may take any time in total."""

    limit_bytes: int
    silence_seconds: float


class Line(Protocol):
    """The connection of a request, for a response that stays open."""

    def write_now(self, piece: bytes) -> bool:
        """Writes a piece of the response's body at once. False, and nothing is written, if it cannot be: the
        reader is behind or has gone.
        """

    def ends_with_reader(self) -> AbstractContextManager[None]:
        """A block that is ended, without an error, when the reader has gone."""

    def cut(self) -> None:
        """Ends the connection at once: what was answered is not whole, and shall not look so."""


class Told(Struct, frozen=True, kw_only=True):
    """What is known of a caller from a look at the same request before."""

    principal: Principal | None
    """Who was admitted; None: nobody needed to be."""
    is_new_visitor: bool = False
    has_met: bool = False
    met: Principal | None = None
    """Who a public operation has found to call, if it has looked (`has_met`)."""
    request_id: str = ""
    mark: str = ""
    """Of a request that another gateway has passed on: what an answer to that gateway itself says; empty: it
    is this gateway that looks once more.
    """

    @property
    def is_forwarded(self) -> bool:
        """Whether another gateway has passed the request on."""
        return self.mark != ""


class Carried(Struct, kw_only=True):
    """See the module; `carried` finds it."""

    origin: PeerOrigin = ELSEWHERE
    """Whether an agent made the connection."""
    line: Line | None = None
    """None under other servers than the gateway's own, and once the request is over."""
    operator: str | None = None
    """Of what came through the operator's socket: the token that its caller must show."""
    peer: str = ""
    """The address that the connection comes from; `client` of the scope is who calls through a proxy."""
    forwarded_host: str | None = None
    """The Host that a trusted proxy in front was asked for, if it says so."""
    principal: Principal | None = None
    """Who calls, once it was admitted."""
    is_standing: Callable[[], bool] | None = None
    """Tells if the credential that let somebody in is still good."""
    stands_until_ms: float | None = None
    """When that credential ends by itself, if that can be said; milliseconds since 1970 UTC."""
    is_new_visitor: bool = False
    """Nothing said who the caller is, so this request made it a visitor."""
    has_met: bool = False
    met: Principal | None = None
    """Who calls a public operation, once it has looked (`has_met`)."""
    told: Told | None = None
    """What a look before has found; only what may have changed since then is looked at again."""
    permit: Permit | None = None
    """Whether what stays open for this request may stay so."""
    operation: str = ""
    """The name of the handler, once a route was found."""
    render: Callable[[GatewayError, int], Any] | None = None
    """How this operation spells an error; None: as the others do."""
    body_rules: BodyRules | None = None
    """Those of a handler that stores what arrives; None: as every request."""
    answer_headers: list[tuple[str, str]] = field(default_factory=list)
    """Headers that the answer carries, a renewed cookie for instance."""


def carried(scope: MutableMapping[str, Any]) -> Carried:
    """What a request with this scope carries."""
    found: Carried | None = scope.get(_KEY)
    if found is None:
        found = scope[_KEY] = Carried()
    return found
