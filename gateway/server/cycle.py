"""A request and its response, on uvicorn's, with what the gateway does differently."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.server.refusals import BROKEN, body_and_headers


class Cycle(RequestResponseCycle):
    """uvicorn's, with three habits more."""

    async def send(self, message: Any) -> None:
        """A response that begins before its request has ended closes the connection; one to HEAD is over with
        its headers.
        """
        is_head = self.scope["method"] == "HEAD"
        if is_head and self.response_complete:
            return
        if not self.response_started and self.more_body:
            self.keep_alive = False
        await super().send(message)
        if is_head and not self.disconnected and not self.response_complete:
            await super().send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send_500_response(self) -> None:
        """Words instead of an empty page."""
        body, headers = body_and_headers(BROKEN)
        await self.send({"type": "http.response.start", "status": BROKEN.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


class Outlet:
    """The transport as a cycle sees it: closing it lets the client finish its sentence."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, *, finish: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = finish
