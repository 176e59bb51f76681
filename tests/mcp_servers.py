"""MCP servers for clients under test: one built with the official SDK, and odd ones that answer as told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import uvicorn
from aiohttp import web
from mcp.server.mcpserver import MCPServer


class QuietServer(uvicorn.Server):
    """A server in the process of the tests."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The signals are the test run's."""
        yield


@contextlib.asynccontextmanager
async def sdk_server(*, is_plain_json: bool = False) -> AsyncIterator[int]:
    """The port of a server with a tool, a failing tool, a resource and a prompt, on loopback."""
    server = MCPServer("calculator", log_level="ERROR")
    server.add_tool(_add, name="add")
    server.add_tool(_fail, name="fail")
    server.resource("note://one")(_note)
    server.prompt(name="greet")(_greet)
    app = server.streamable_http_app(json_response=is_plain_json)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        logging.getLogger("mcp").setLevel(logging.ERROR)
        config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1)
        running = QuietServer(config)
        serving = asyncio.create_task(running.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            running.should_exit = True
            await serving


def _add(a: int, b: int) -> int:
    return a + b


def _fail() -> str:
    raise ValueError("out of order")


def _note() -> str:
    return "remember the milk"


def _greet(name: str) -> str:
    return f"Say hello to {name}."


class OddServer:
    """Answers each path as a test says; counts what it was asked. `messages` are the bodies it got."""

    def __init__(self) -> None:
        self.port = 0
        self.scheme = "http"
        self.requests: list[web.Request] = []
        self.messages: list[Any] = []
        self.routes: dict[str, Callable[[web.Request, Any], Awaitable[web.StreamResponse]]] = {}

    def url(self, path: str = "/mcp", host: str = "localhost") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        message = json.loads(body) if body else {}
        self.requests.append(request)
        self.messages.append(message)
        route = self.routes.get(request.path, _plain)
        return await route(request, message)


async def _plain(_request: web.Request, message: Any) -> web.StreamResponse:
    return answered(message)


def answered(message: Any, **headers: str) -> web.Response:
    """The answer of a well-behaved server without tools."""
    if "id" not in message:
        return web.Response(status=202, headers=headers)
    version = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "serverInfo": {"name": "x", "version": "1"},
    }
    result = version if message["method"] == "initialize" else {"tools": []}
    return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result}, headers=headers)


@contextlib.asynccontextmanager
async def odd_server(
    *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[OddServer]:
    """One on loopback."""
    server = OddServer()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        await site.start()
        server.port = runner.addresses[0][1]
        server.scheme = "https" if tls is not None else "http"
        yield server
    finally:
        await runner.cleanup()
