"""The cases of Autobahn's test suite, against the gateway's own WebSocket protocol with an echo behind it.

Left out are 9.* (how large and how many fragments: the gateway bounds both, `test_sockets.py`) and 12.*, 13.*
(compression, which it does not offer).
"""

from __future__ import annotations

import asyncio
import functools
import socket
from typing import Any, Final, cast

import kosoku
import uvicorn

from gateway.config.tables import ServerConfig
from gateway.http.connections import Connections
from gateway.server.protocol import GatewayProtocol
from gateway.workers.peer_identity import ELSEWHERE
from tests.mcp_servers import QuietServer
from tests.patience import within

MESSAGE_BYTES: Final = 1024 * 1024
LEFT_OUT: Final = ("9.*", "12.*", "13.*")
CONCURRENCY: Final = 4
SECONDS: Final = 60
CASES: Final = 241
LATE_AT_MOST: Final = 20


async def echo(_scope: Any, receive: Any, send: Any) -> None:
    """Says what it hears."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def server_of(app: Any) -> QuietServer:
    connections = Connections(ServerConfig(), capacity=100, origin=lambda _transport: ELSEWHERE)
    config = uvicorn.Config(
        app,
        loop="none",
        http=cast("Any", functools.partial(GatewayProtocol, connections=connections)),
        ws="none",
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,
        lifespan="off",
        access_log=False,
        log_config=None,
    )
    return QuietServer(config)


async def passed(url: str) -> int:
    """How many cases passed. The suite's client waits a second for a close, which a busy machine may need for
    more than one connection: a case that failed only by that is tried again, by itself.
    """
    try:
        return len(await kosoku.run_fuzzingclient(url, exclude_cases=LEFT_OUT, concurrency=CONCURRENCY))
    except kosoku.FailureError as error:
        late = [result for result in error.results if _is_late(result)]
        if len(late) < len(error.results) or len(late) > LATE_AT_MOST:
            raise
    for result in late:
        await kosoku.run_fuzzingclient(url, cases=[result.case_id])
    return CASES


def _is_late(result: Any) -> bool:
    has_timed_out = result.was_close_handshake_timeout or result.was_server_connection_drop_timeout
    return bool(result.behavior == "OK" and has_timed_out)


async def test_every_case_passes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = server_of(echo)
        serving = asyncio.create_task(server.serve([listener]))
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/ws/echo"
        try:
            async with within(SECONDS):
                count = await passed(url)
        finally:
            server.should_exit = True
            await serving
    assert count >= CASES
