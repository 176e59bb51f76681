"""What comes in through the operator's socket is marked, so that the gate asks for its token."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.scope import carried


class Door:
    """ASGI: marks what comes through it, so that the gate asks for the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        carried(scope).operator = self._token
        await self._app(scope, receive, send)
