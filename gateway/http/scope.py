"""What a request carries through the gateway beside what ASGI says of it, under one key of its scope."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from msgspec import Struct, field

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
    is_new_visitor: bool = False
    """Nothing said who the caller is, so this request made it a visitor."""
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
