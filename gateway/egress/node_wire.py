"""Connections to other gateways.

Another gateway is asked for every request that comes to the wrong one, and its streams bring every event of
its sessions: so they speak HTTP with as little work as it takes (`http_wire`), and a peer that confirms
nothing is given up.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from gateway.egress.http_wire import HttpConnection, IdleConnections

KEPT_SECONDS: Final = 10.0
"""A connection that nobody uses is ended by who asks, before the other side would: so no request meets one
that is just being closed.
"""
SILENT_SECONDS: Final = 5
"""A peer that confirms nothing, neither what it was sent nor that it is there, is gone after so long."""
_PORTS: Final = {"http": 80, "https": 443}


class NodeUnreachable(Exception):
    """No connection: nothing of the request has left."""


class NodeSilent(Exception):
    """The request has left, at least in part, and there was no answer."""


class NodeConnections:
    """Those to all other gateways that are not in use. `close` them."""

    def __init__(self, *, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._idle = IdleConnections(seconds=KEPT_SECONDS)
        self._tls: ssl.SSLContext | None = None

    async def take(self, url: str) -> HttpConnection:
        """A connection to the gateway at this URL, which has no path. Raises NodeUnreachable."""
        if (known := self._idle.take(url)) is not None:
            return known
        try:
            return await self._connected(url)
        except (OSError, ValueError) as error:  # the former is a TimeoutError, too, and an error of TLS
            raise NodeUnreachable(str(error) or type(error).__name__) from error

    async def _connected(self, url: str) -> HttpConnection:
        parts = urlsplit(url)
        is_secure = parts.scheme == "https"
        if is_secure and self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        async with asyncio.timeout(self._connect_seconds):
            _, connection = await asyncio.get_running_loop().create_connection(
                partial(HttpConnection, prepare=notice),
                parts.hostname or "",
                parts.port or _PORTS[parts.scheme],
                ssl=self._tls if is_secure else None,
            )
        return connection

    async def give_back(self, url: str, connection: HttpConnection) -> None:
        """It is not needed now."""
        if await connection.leave():
            self._idle.keep(url, connection)

    def close(self) -> None:
        """Ends all that are not in use."""
        self._idle.close()


def notice(sock: socket.socket) -> None:
    """The socket notices that its peer, or the way to it, is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": SILENT_SECONDS - 2}
    options["TCP_USER_TIMEOUT"] = 1000 * SILENT_SECONDS
    for name, value in options.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
