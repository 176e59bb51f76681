"""HTTP by hand: bytes in, bytes out, for tests of what no client library would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from tests.gateways import RunningGateway
from tests.patience import within
from tests.shared import crowding

ANSWER_SECONDS: Final = 10.0
_BODILESS: Final = (204, 304)


class Answer(Struct):
    """One response as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        """The error of the gateway's JSON error body, after its shape was checked."""
        assert self.headers["content-type"] == "application/json", self
        content = json.loads(self.body)
        assert set(content) == {"error", "request_id"}
        assert content["error"]["code"]
        assert content["error"]["message"]
        assert content["request_id"] == self.headers["x-request-id"]
        return content["error"]


class Raw:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes, pause: float = 0) -> None:
        """Writes pieces one after the other; what the gateway no longer takes is dropped."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()
                await asyncio.sleep(pause)

    async def answer(self, *, seconds: float = ANSWER_SECONDS, is_head: bool = False) -> Answer:
        """The next response, interim ones included. Raises IncompleteReadError at the connection's end."""
        async with within(seconds):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            status = int(head[0].split(" ")[1])
            lines = [line.partition(":") for line in head[1:] if line]
            headers = {name.lower(): value.strip() for name, _, value in lines}
            if is_head or status < 200 or status in _BODILESS:
                return Answer(status, headers, b"")
            if headers.get("transfer-encoding") == "chunked":
                return Answer(status, headers, await self._chunks())
            body = await self.reader.readexactly(int(headers["content-length"]))
            return Answer(status, headers, body)

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return body

    async def rest(self, *, seconds: float = ANSWER_SECONDS) -> bytes:
        """Everything up to the connection's end, which has to come; a reset is one."""
        received = bytearray()
        async with within(seconds):
            with contextlib.suppress(ConnectionError):
                while chunk := await self.reader.read(65_536):
                    received += chunk
        return bytes(received)

    async def last_answer(self, *, seconds: float = ANSWER_SECONDS, is_head: bool = False) -> Answer:
        """The next response, after which the gateway must close."""
        answer = await self.answer(seconds=seconds, is_head=is_head)
        assert answer.headers["connection"] == "close", answer
        assert await self.rest(seconds=seconds) == b""
        return answer

    async def closed(self) -> None:
        """Leaves."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def raw(gateway: RunningGateway, *, source: str | None = None) -> AsyncIterator[Raw]:
    """A connection to the gateway, from another loopback address where one is given."""
    parts = urlsplit(gateway.url)
    local = (source, 0) if source else None
    connection = Raw(*await asyncio.open_connection(parts.hostname, parts.port, local_addr=local))
    try:
        yield connection
    finally:
        await connection.closed()


def request(
    line: str = "GET /health HTTP/1.1",
    headers: Iterable[str] = ("Host: localhost",),
    body: bytes = b"",
) -> bytes:
    """A request from its lines."""
    return "\r\n".join([line, *headers, "", ""]).encode("latin-1") + body


def post(message: bytes, *headers: str, path: str = "/api/chat") -> bytes:
    """A POST of JSON with its length."""
    given = ("Host: localhost", "Content-Type: application/json", f"Content-Length: {len(message)}")
    return request(f"POST {path} HTTP/1.1", (*given, *headers), message)


async def assert_works(gateway: RunningGateway) -> None:
    """A good request right after is answered within a second."""
    began = time.monotonic()
    async with raw(gateway) as connection:
        await connection.send(request())
        assert (await connection.answer(seconds=crowding())).body == b"OK"
    assert time.monotonic() - began < 1 * crowding()
    assert "Traceback" not in gateway.log()
