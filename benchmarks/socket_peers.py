"""Two bare servers that send every message to everybody: `python -m benchmarks.socket_peers NAME`, where NAME
is starlette or websockets. They store nothing, check nothing, and know no sessions: the floor for ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.server import ServerConnection, broadcast, serve


def starlette_app() -> Starlette:
    """Starlette as its documentation shows a chat room."""
    open_sockets: set[WebSocket] = set()

    async def room(one: WebSocket) -> None:
        await one.accept()
        open_sockets.add(one)
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                text = await one.receive_text()
                for other in list(open_sockets):
                    await other.send_text(text)
        open_sockets.discard(one)

    return Starlette(routes=[WebSocketRoute("/{path:path}", room)])


async def run_starlette() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(starlette_app(), log_level="critical", ws="websockets-sansio")
    await uvicorn.Server(config).serve([listener])


async def run_websockets() -> None:
    open_sockets: set[ServerConnection] = set()

    async def room(one: ServerConnection) -> None:
        open_sockets.add(one)
        async for text in one:
            broadcast(open_sockets, text)
        open_sockets.discard(one)

    async with serve(room, "127.0.0.1", 0) as server:
        sockets: Any = server.sockets
        print(next(iter(sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(run_starlette() if sys.argv[1] == "starlette" else run_websockets())
