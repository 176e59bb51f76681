"""The gateway's connection layer with only an echo behind it: `python -m tests.products.echo_server`."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn

from gateway.config.tables import Config, ServerConfig
from gateway.http.connections import Connections
from gateway.server.server import Server, _uvicorn


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Sends every message back as it came."""
    if scope["type"] != "websocket":
        return
    await send({"type": "websocket.accept"})
    await receive()
    while (message := await receive())["type"] == "websocket.receive":
        kept = {name: message[name] for name in ("text", "bytes") if message.get(name) is not None}
        await send({"type": "websocket.send", **kept})


async def main() -> None:
    """Serves on a free port, which it prints, until it is ended."""
    config = Config(server=ServerConfig(socket_message_bytes=16 * 1024 * 1024))
    connections = Connections(config.server, capacity=1000)
    built: uvicorn.Config = _uvicorn(echo, config, connections)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)  # noqa: T201
    await Server(built, connections).serve([listener])


if __name__ == "__main__":
    asyncio.run(main())
