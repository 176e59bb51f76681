"""Connections to other gateways, to a server that says what a test wants it to say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.egress.http_wire import HEAD_BYTES, READ_AHEAD_BYTES, AnswerCut
from gateway.egress.node_http import NodeAnswer, NodeHttp
from gateway.egress.node_wire import NodeSilent, NodeUnreachable
from tests.patience import soon

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
HEAD = [(b"host", b"gateway")]
Asking = Callable[..., contextlib.AbstractAsyncContextManager[NodeAnswer]]


class Server:
    """Answers each request with the next of `says`; a `None` in it closes the connection."""

    def __init__(self) -> None:
        self.says: list[bytes | None] = []
        self.heard = b""
        self.connections = 0
        self.url = ""
        self.handling: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.handling.append(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not reader.at_eof():
                self.heard += await reader.readuntil(b"\r\n\r\n")
                while self.says:
                    if (said := self.says.pop(0)) is None:
                        raise asyncio.IncompleteReadError(b"", None)
                    writer.write(said)
                    await writer.drain()
                    if not said.startswith(b"HTTP/1.1 100") and self.says[:1] != [None]:
                        break
                    if self.says[:1] != [None]:
                        self.heard += await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield made
    listening.close()
    if made.handling:
        await asyncio.wait(made.handling, timeout=10)


@pytest.fixture
async def http(server: Server) -> AsyncIterator[NodeHttp]:
    made = NodeHttp(connect_seconds=5)
    yield made
    await made.close()


async def whole(http: NodeHttp, server: Server, method: str = "GET", body: object = None) -> bytes:
    asked = http.asked(server.url, method=method, target=b"/a?b=%20", headers=HEAD, body=body)  # type: ignore[arg-type]
    async with asked as answer:
        return await soon(answer.whole(), 10)


async def test_a_connection_is_used_again_after_a_whole_answer(http: NodeHttp, server: Server) -> None:
    server.says = [OK, b"HTTP/1.1 204 No Content\r\n\r\n", OK]
    assert [await whole(http, server) for _ in range(3)] == [b"hello", b"", b"hello"]
    assert server.connections == 1
    assert server.heard.startswith(b"GET /a?b=%20 HTTP/1.1\r\nhost: gateway\r\n\r\n")


async def test_it_is_not_after_one_that_was_left_or_that_says_so(http: NodeHttp, server: Server) -> None:
    server.says = [OK]
    async with http.asked(server.url, method="GET", target=b"/", headers=HEAD, body=None) as answer:
        assert answer.status == 200
    server.says = [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"]
    assert await whole(http, server) == b"ok"
    server.says = [OK]
    assert await whole(http, server) == b"hello"
    assert server.connections == 3


async def test_an_answer_to_head_has_no_body(http: NodeHttp, server: Server) -> None:
    server.says = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"]
    assert await whole(http, server, "HEAD") == b""
    server.says = [OK]
    assert await whole(http, server) == b"hello"


async def test_a_body_to_the_end_of_its_connection(http: NodeHttp, server: Server) -> None:
    server.says = [b"HTTP/1.1 200 OK\r\n\r\nall there", None]
    assert await whole(http, server) == b"all there"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n",
    ],
)
async def test_an_answer_that_ends_early_is_cut(http: NodeHttp, server: Server, said: bytes) -> None:
    server.says = [said, None]
    with pytest.raises(AnswerCut):
        await whole(http, server)


@pytest.mark.parametrize(
    "said", [None, b"HTTP/1.1 2", b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\nX: " + bytes(2 * HEAD_BYTES)]
)
async def test_no_answer(http: NodeHttp, server: Server, said: bytes | None) -> None:
    server.says = [said, None] if said else [None]
    with pytest.raises(NodeSilent):
        await whole(http, server)


async def test_nobody_there(http: NodeHttp, server: Server) -> None:
    server.url = "http://127.0.0.1:1"
    with pytest.raises(NodeUnreachable):
        await whole(http, server)


async def test_a_line_in_a_header_is_not_sent(http: NodeHttp, server: Server) -> None:
    headers = [*HEAD, (b"x", b"a\r\nx-agw-forwarded: forged")]
    with pytest.raises(NodeSilent):
        async with http.asked(server.url, method="GET", target=b"/", headers=headers, body=None):
            pass
    assert not server.heard


async def test_a_body_that_arrives_leaves_when_it_is_wanted(http: NodeHttp, server: Server) -> None:
    read = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal read
        for part in (b"one", b"two"):
            read += 1
            yield part

    server.says = [b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"]
    assert await whole(http, server, "PUT", parts()) == b"no"
    assert read == 0
    server.says = [b"HTTP/1.1 100 Continue\r\n\r\n", OK]
    assert await whole(http, server, "PUT", parts()) == b"hello"
    assert b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n" in server.heard
    assert b"expect: 100-continue" in server.heard
    assert read == 2


async def test_who_reads_slowly_holds_the_other_side(http: NodeHttp, server: Server) -> None:
    much = 64 * READ_AHEAD_BYTES
    server.says = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % much + bytes(much)]
    async with http.asked(server.url, method="GET", target=b"/", headers=HEAD, body=None) as answer:
        connection = answer._connection
        while not connection._is_paused:
            await asyncio.sleep(0)
        assert connection._unread < 8 * READ_AHEAD_BYTES
        assert len(await soon(answer.whole(), 10)) == much
    assert server.connections == 1
