"""A gateway in the test's own process, asked without a socket: for planted faults and for figures."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any

from msgspec import Struct

from gateway.app import Gateway
from gateway.config.tables import Config, WorkersConfig


class Answered(Struct):
    """What a request came to."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Inside:
    """A gateway in this process, in which faults can be planted; asked without a socket."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def ask(self, method: str, path: str, body: object = None) -> Answered:
        """One request, to the end of its answer."""
        sent: list[dict[str, Any]] = []
        content = b"" if body is None else json.dumps(body).encode()
        path, _, query = path.partition("?")
        headers = {"host": "localhost", "content-type": "application/json", "content-length": len(content)}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), str(value).encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await self.gateway.app(scope, receive, send)
        text = b"".join(message.get("body", b"") for message in sent)
        return Answered(sent[0]["status"], text.decode())

    async def chat(self, session_id: str, message: str) -> list[str]:
        """What was said in a session after a turn, from the oldest on."""
        body = {"session_id": session_id, "message": message}
        answer = await self.ask("POST", "/api/chat?wait=240", body)
        assert answer.status == 200, answer.text
        return [message["content"] for message in answer.json["messages"]]


@contextlib.asynccontextmanager
async def inside_gateway(directory: pathlib.Path, **tables: Any) -> AsyncIterator[Inside]:
    """Opens a gateway with its store in memory; `tables` are tables of its configuration."""
    tables.setdefault("workers", WorkersConfig(spares=0))  # they are counted
    gateway = Gateway(Config(data_dir=str(directory), store="memory://", **tables))
    async with gateway.lifespan():
        yield Inside(gateway)
