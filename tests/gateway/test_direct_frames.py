"""Frames that are written at once while a reader keeps up: the same stream, whatever the reader does."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.types import Message, Scope

from gateway.http.event_stream import FrameResponse
from gateway.server.cycle import Cycle
from tests.inside import GatewayInside
from tests.shared import SHARED, eventually, fresh_id, shared_gateway
from tests.streams import open_stream

pytestmark = SHARED
gateway = shared_gateway(
    "[limits]\nstreams_per_owner = 500\nsession_burst = 1000\n", agents={"fast": "streams_fast"}
)
COUNTED = "/count 60 2"
LONG_TURNS = 15
"""More than the kernel and the gateway keep for a reader that does not read."""
WORDS = " ".join(map(str, range(1, 61)))


@contextlib.contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether each attempt to write a frame at once did."""
    tries: list[bool] = []
    write_now = Cycle.write_now

    def noted(cycle: Cycle, piece: bytes) -> bool:
        tries.append(write_now(cycle, piece))
        return tries[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Cycle, "write_now", noted)
        yield tries


class SlowReader:
    """A client that takes as much of a stream as it is told to."""

    def __init__(self, gateway: GatewayInside, session_id: str) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._socket.setblocking(False)
        self._target = f"/api/chat/stream?session_id={session_id}&view=events"
        self._port = int(gateway.url.rpartition(":")[2])
        self.raw = b""

    async def __aenter__(self) -> SlowReader:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        request = f"GET {self._target} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await loop.sock_sendall(self._socket, request.encode())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    async def take(self, *, turns: int, size: int) -> None:
        """Reads so many bytes at a time until the ends of so many turns have come."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(30):
            while self.raw.count(b"event: turn_ended") < turns:
                piece = await loop.sock_recv(self._socket, size)
                assert piece, "the stream ended"
                self.raw += piece

    @property
    def body(self) -> bytes:
        """What came in chunks, each of which is whole."""
        rest, out = self.raw.partition(b"\r\n\r\n")[2], b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            out += rest[:length]
            assert rest[length : length + 2] in (b"\r\n", b"\r", b""), rest[: length + 2]
            rest = rest[length + 2 :]
        return out


def ids(body: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"^id: (\d+)$", body, re.MULTILINE)]


def words(body: bytes) -> str:
    """The text of an answer in `/count`'s form."""
    return b"".join(re.findall(rb'"text":"([^"]*)"', body)).decode()


async def test_a_reader_that_keeps_up_is_written_to_at_once(
    gateway: GatewayInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = fresh_id("direct")
    await gateway.chat(session_id, "/echo warm")
    with counted(monkeypatch) as tries:
        async with open_stream(gateway.http, session_id) as stream:
            await stream.until_event("turn_ended")
            tries.clear()
            await gateway.send(session_id, COUNTED)
            await stream.until_event("turn_ended")
        assert stream.text == "warm" + WORDS
        assert tries.count(True) > 10
        seqs = [int(frame.id) for frame in stream.frames if frame.id is not None]
        assert seqs == sorted(set(seqs))
        assert "Content-Encoding" not in stream.response.headers


async def test_a_socket_that_takes_one_byte_at_a_time_gets_every_frame_once(gateway: GatewayInside) -> None:
    session_id = fresh_id("byte")
    await gateway.chat(session_id, "/echo warm")
    async with SlowReader(gateway, session_id) as reader:
        await reader.take(turns=1, size=1)
        await gateway.send(session_id, COUNTED)
        await reader.take(turns=2, size=1)
    assert ids(reader.body) == sorted(set(ids(reader.body)))
    assert words(reader.body).endswith("warm" + WORDS)


async def test_a_reader_that_stops_in_the_middle_of_a_frame_goes_on_from_there(
    gateway: GatewayInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = fresh_id("stops")
    await gateway.chat(session_id, "/echo warm")
    with counted(monkeypatch) as tries:
        async with SlowReader(gateway, session_id) as reader:
            await reader.take(turns=1, size=64)
            for _ in range(LONG_TURNS):
                await gateway.chat(session_id, "/big 20000")
            await reader.take(turns=2, size=1000)
            assert True in tries
            assert False in tries, "it was behind"
            await gateway.chat(session_id, COUNTED)
            await reader.take(turns=2 + LONG_TURNS, size=65_536)
            body = reader.body
    assert ids(body) == sorted(set(ids(body)))
    assert words(body) == "warm" + "x" * 20_000 * LONG_TURNS + WORDS


async def test_many_readers_of_one_log_see_the_same(gateway: GatewayInside) -> None:
    session_id = fresh_id("many")
    await gateway.chat(session_id, "/echo warm")
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(open_stream(gateway.http, session_id)) for _ in range(150)]
        await asyncio.gather(*(stream.until_event("turn_ended") for stream in streams))
        await gateway.send(session_id, COUNTED)
        await asyncio.gather(*(stream.until_event("turn_ended") for stream in streams))
        assert {stream.text for stream in streams} == {"warm" + WORDS}


async def test_a_reader_that_leaves_while_nothing_happens_is_noticed(gateway: GatewayInside) -> None:
    session_id = fresh_id("left")
    await gateway.chat(session_id, "/echo warm")
    async with open_stream(gateway.http, session_id) as stream:
        await stream.until_event("turn_ended")
        assert await readers(gateway) == 1

    async def is_gone() -> bool:
        return await readers(gateway) == 0

    await eventually(is_gone)


async def readers(gateway: GatewayInside) -> int:
    """The open streams of logs, as the metrics say."""
    async with gateway.http.get("/metrics") as response:
        found = re.search(r'stream_readers\{view="events"\} (\d+)', await response.text())
        assert found is not None
        return int(found[1])


# -- under another server ---------------------------------------------------------------------------------


async def forever(closed: list[str]) -> AsyncIterator[bytes]:
    try:
        yield b"data: 1\n\n"
        await asyncio.Event().wait()
    finally:
        closed.append("frames")


async def test_under_another_server_a_reader_that_leaves_ends_its_stream() -> None:
    sent: list[Message] = []
    closed: list[str] = []
    has_come = asyncio.Event()

    async def receive() -> Message:
        await has_come.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if message.get("body"):
            has_come.set()

    async def ended() -> None:
        closed.append("end")

    scope: Scope = {"type": "http", "method": "GET"}
    response = FrameResponse(forever(closed), headers={}, on_end=ended)  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        await response(scope, receive, send)
    assert [message.get("body") for message in sent] == [None, b"data: 1\n\n"]
    assert closed == ["frames", "end"]
