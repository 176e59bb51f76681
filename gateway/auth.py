"""Credentials → Principal. So far one mode, `open`: everybody who reaches the gateway is the person at the
machine.

That is why a gateway in `open` mode binds loopback only, unless forced by name.
"""

from __future__ import annotations

from starlette.requests import HTTPConnection

from gateway.errors import Forbidden
from gateway.tenants import LOCAL, Principal

PRINCIPAL = "agent_gateway.principal"
"""Where a request's ASGI scope carries its principal, once it was admitted."""


class Gate:
    """Decides who a caller is, and whether it may do what it asks."""

    async def admit(self, connection: HTTPConnection, scope: str) -> Principal:
        """The caller, who may do what needs this scope. Raises Unauthorized (401), Forbidden (403)."""
        principal = LOCAL
        if scope and scope not in principal.scopes:
            raise Forbidden
        connection.scope[PRINCIPAL] = principal
        return principal


def principal_of(connection: HTTPConnection) -> Principal:
    """On whose behalf a request is made; it was admitted before."""
    principal: Principal = connection.scope[PRINCIPAL]
    return principal
