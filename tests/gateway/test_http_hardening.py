"""What arrives on the socket below HTTP libraries: slow, endless, too large, malformed."""

from __future__ import annotations

import asyncio
import ssl
import time

import pytest

from tests.gateways import RunningGateway
from tests.patience import soon
from tests.raw import assert_works, raw, request
from tests.shared import SHARED, crowding, fresh_id, shared_gateway

pytestmark = SHARED

HEADER_SECONDS = 0.5
BODY_SECONDS = 0.6
IDLE_SECONDS = 0.8
MARGIN_SECONDS = 2.5
"""A body that no handler reads has a second more; and the machine may be busy."""
gateway = shared_gateway(
    f"""
[server]
header_deadline_seconds = {HEADER_SECONDS}
body_deadline_seconds = {BODY_SECONDS}
idle_connection_seconds = {IDLE_SECONDS}
[limits]
waiting_streams_per_owner = 4
"""
)
KIB = 1024
CHUNKED = "Transfer-Encoding: chunked"
HOST = "Host: localhost"
JSON = "Content-Type: application/json"


# -- deadlines ---------------------------------------------------------------------------------------------


async def test_slow_headers_are_cut_with_words(gateway: RunningGateway) -> None:
    began = time.monotonic()
    async with raw(gateway) as connection:
        slow = asyncio.create_task(connection.send(*[b"%c" % byte for byte in request() * 4], pause=0.1))
        answer = await connection.last_answer()
        assert (
            HEADER_SECONDS * 0.9 <= time.monotonic() - began <= HEADER_SECONDS + MARGIN_SECONDS * crowding()
        )
        slow.cancel()
    assert answer.status == 408
    assert answer.error["code"] == "request_timeout"
    await assert_works(gateway)


@pytest.mark.parametrize("drip", [b"\r\n", b"X-A: b\r\n"])
async def test_a_head_that_never_ends_is_cut_however_often_a_line_comes(
    gateway: RunningGateway, drip: bytes
) -> None:
    async with raw(gateway) as connection:
        start = b"" if drip == b"\r\n" else b"GET / HTTP/1.1\r\n"
        slow = asyncio.create_task(connection.send(start, *[drip] * 100, pause=0.1))
        assert (await connection.last_answer(seconds=HEADER_SECONDS + MARGIN_SECONDS)).status == 408
        slow.cancel()


async def test_a_connection_without_a_request_is_closed_without_a_word(gateway: RunningGateway) -> None:
    began = time.monotonic()
    async with raw(gateway) as connection:
        assert await connection.rest() == b""
    assert IDLE_SECONDS * 0.9 <= time.monotonic() - began <= IDLE_SECONDS + MARGIN_SECONDS * crowding()


async def test_a_connection_between_requests_is_closed_too(gateway: RunningGateway) -> None:
    async with raw(gateway) as connection:
        await connection.send(request())
        assert (await connection.answer()).status == 200
        assert await connection.rest(seconds=IDLE_SECONDS + MARGIN_SECONDS) == b""


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("POST /api/chat HTTP/1.1", 408),
        ("GET /health HTTP/1.1", 200),
        ("POST /health HTTP/1.1", 405),
        ("POST /nothing HTTP/1.1", 404),
    ],
)
@pytest.mark.parametrize("length", ["Content-Length: 100", CHUNKED])
async def test_a_body_that_does_not_come_keeps_no_connection(
    gateway: RunningGateway, line: str, status: int, length: str
) -> None:
    async with raw(gateway) as connection:
        await connection.send(request(line, (HOST, JSON, length)))
        answer = await connection.last_answer(seconds=BODY_SECONDS + MARGIN_SECONDS)
        assert answer.status == status
    await assert_works(gateway)


async def test_a_stream_whose_request_never_ends_is_cut(gateway: RunningGateway) -> None:
    async with raw(gateway) as connection:
        await connection.send(request("GET /api/chat/stream?session_id=x HTTP/1.1", (HOST, CHUNKED)))
        received = await connection.rest(seconds=BODY_SECONDS + MARGIN_SECONDS)
        assert received.startswith(b"HTTP/1.1 200")


# -- sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [b"\r\n\r\n", b""])
@pytest.mark.parametrize("piece", [70 * KIB, 1000])
async def test_headers_past_64_kib_are_431(gateway: RunningGateway, ending: bytes, piece: int) -> None:
    data = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * (65 * KIB) + ending
    async with raw(gateway) as connection:
        await connection.send(*[data[at : at + piece] for at in range(0, len(data), piece)])
        answer = await connection.last_answer()
    assert (answer.status, answer.error["code"]) == (431, "head_too_large")
    await assert_works(gateway)


async def test_headers_below_the_limit_are_taken(gateway: RunningGateway) -> None:
    async with raw(gateway) as connection:
        await connection.send(request(headers=(HOST, "X-Long: " + "a" * (60 * KIB))))
        assert (await connection.answer()).status == 200


async def test_too_many_headers_are_431(gateway: RunningGateway) -> None:
    async with raw(gateway) as connection:
        await connection.send(request(headers=(HOST, *[f"X-{number}: 1" for number in range(300)])))
        assert (await connection.last_answer()).status == 431


@pytest.mark.parametrize("ending", [" HTTP/1.1\r\nHost: localhost\r\n\r\n", ""])
@pytest.mark.parametrize("size", [20 * KIB, 70 * KIB])
async def test_a_request_line_that_is_too_long_is_414(
    gateway: RunningGateway, ending: str, size: int
) -> None:
    async with raw(gateway) as connection:
        await connection.send(b"GET /" + b"a" * size + ending.encode())
        answer = await connection.last_answer()
    assert (answer.status, answer.error["code"]) == (414, "target_too_long")


@pytest.mark.parametrize(
    ("line", "status"),
    [("POST /api/chat HTTP/1.1", 413), ("POST /health HTTP/1.1", 405), ("POST /nothing HTTP/1.1", 404)],
)
async def test_endless_chunks_are_cut_whether_somebody_reads_them_or_not(
    gateway: RunningGateway, line: str, status: int
) -> None:
    chunk = b"%x\r\n%b\r\n" % (16 * KIB, b" " * 16 * KIB)
    async with raw(gateway) as connection:
        flood = asyncio.create_task(connection.send(request(line, (HOST, JSON, CHUNKED)), *[chunk] * 100_000))
        answer = await connection.last_answer(seconds=BODY_SECONDS + MARGIN_SECONDS + 2)
        assert answer.status == status
        flood.cancel()
    await assert_works(gateway)


async def test_trailers_and_chunk_extensions_are_bounded_as_bodies_are(gateway: RunningGateway) -> None:
    head = request("POST /api/chat HTTP/1.1", (HOST, JSON, CHUNKED))
    for endless in (b"0\r\nX-Trailer: ", b"1;extension="):
        async with raw(gateway) as connection:
            flood = asyncio.create_task(connection.send(head, endless, *[b"a" * 64 * KIB] * 10_000))
            answer = await connection.last_answer(seconds=BODY_SECONDS + MARGIN_SECONDS + 2)
            assert answer.status in (400, 408, 413)
            flood.cancel()
    await assert_works(gateway)


# -- what is not HTTP --------------------------------------------------------------------------------------

POST_LINE = "POST /api/chat HTTP/1.1"
MALFORMED = {
    "an absurd length": (request(POST_LINE, (HOST, "Content-Length: " + "9" * 40)), 400),
    "a negative length": (request(POST_LINE, (HOST, "Content-Length: -1")), 400),
    "a length with a sign": (request(POST_LINE, (HOST, "Content-Length: +1"), b"a"), 400),
    "two lengths": (request(POST_LINE, (HOST, "Content-Length: 1", "Content-Length: 2"), b"ab"), 400),
    "a length twice": (request(POST_LINE, (HOST, "Content-Length: 1", "Content-Length: 1"), b"a"), 400),
    "a list of lengths": (request(POST_LINE, (HOST, "Content-Length: 1, 1"), b"a"), 400),
    "an empty length": (request(POST_LINE, (HOST, "Content-Length:")), 400),
    "length, then chunks": (request(POST_LINE, (HOST, "Content-Length: 4", CHUNKED), b"0\r\n\r\n"), 400),
    "chunks, then length": (request(POST_LINE, (HOST, CHUNKED, "Content-Length: 4"), b"0\r\n\r\n"), 400),
    "a chunk of no size": (request(POST_LINE, (HOST, JSON, CHUNKED), b"zz\r\n"), 400),
    "a negative chunk": (request(POST_LINE, (HOST, JSON, CHUNKED), b"-1\r\n"), 400),
    "a chunk of 2^68": (request(POST_LINE, (HOST, JSON, CHUNKED), b"f" * 17 + b"\r\n"), 400),
    "a chunk that is longer": (request(POST_LINE, (HOST, JSON, CHUNKED), b"1\r\nab\r\n"), 400),
    "chunks by line feeds": (request(POST_LINE, (HOST, JSON, CHUNKED), b"1\na\n0\n\n"), 400),
    "an unknown coding": (request(POST_LINE, (HOST, "Transfer-Encoding: gzip, chunked")), 501),
    "a coding like chunked": (request(POST_LINE, (HOST, "Transfer-Encoding: xchunked")), 501),
    "chunked twice": (request(POST_LINE, (HOST, CHUNKED, CHUNKED)), 400),
    "chunks in HTTP/1.0": (request("POST /api/chat HTTP/1.0", (HOST, CHUNKED), b"0\r\n\r\n"), 400),
    "a NUL in a value": (request(headers=(HOST, "X-A: a\0b")), 400),
    "a NUL in a name": (request(headers=(HOST, "X\0A: b")), 400),
    "a NUL in the path": (request("GET /\0 HTTP/1.1"), 400),
    "raw bytes in the path": (request("GET /\xff\xfe HTTP/1.1"), 400),
    "bare line feeds": (b"GET /health HTTP/1.1\nHost: localhost\n\n", 400),
    "one bare line feed": (b"GET /health HTTP/1.1\r\nHost: localhost\nX-A: b\r\n\r\n", 400),
    "a bare carriage return": (request(headers=(HOST, "X-A: b\rX-B: c")), 400),
    "a folded header": (request(headers=(HOST, "X-A: b", " c")), 400),
    "a space before the colon": (request(headers=(HOST, "Content-Length : 1")), 400),
    "a header without a colon": (request(headers=(HOST, "nonsense")), 400),
    "a header without a name": (request(headers=(HOST, ": a")), 400),
    "no Host": (request(headers=()), 400),
    "two Hosts": (request(headers=(HOST, "Host: evil.example")), 400),
    "a space in the target": (request("GET /a b HTTP/1.1"), 400),
    "a target that is no path": (request("OPTIONS * HTTP/1.1"), 400),
    "a relative target": (request("GET health HTTP/1.1"), 400),
    "an authority": (request("CONNECT example.org:443 HTTP/1.1"), 400),
    "HTTP/0.9": (b"GET /health\r\n\r\n", 505),
    "HTTP/1.2": (request("GET /health HTTP/1.2"), 505),
    "HTTP/2.0": (request("GET /health HTTP/2.0"), 505),
    "HTTP/9.9": (request("GET /health HTTP/9.9"), 505),
    "HTTP/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "a lower-case method": (request("get /health HTTP/1.1"), 400),
    "an unknown method": (request("BREW /coffee HTTP/1.1"), 400),
    "another protocol": (b"EHLO example.org\r\n", 400),
    "a mail": (b"\x00\x01\x02\x03\xff" * 100, 400),
    "a WebSocket with a body": (
        request(POST_LINE, (HOST, "Upgrade: websocket", "Connection: Upgrade", "Content-Length: 2"), b"{}"),
        400,
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("is_slow", [False, True])
async def test_what_is_no_request_is_refused_with_the_usual_words(
    gateway: RunningGateway, name: str, is_slow: bool
) -> None:
    data, status = MALFORMED[name]
    half = len(data) // 2
    async with raw(gateway) as connection:
        await connection.send(*([data[:half], data[half:]] if is_slow else [data]), pause=0.01)
        answer = await connection.last_answer()
    assert answer.status == status, answer
    assert answer.error["code"] in ("bad_request", "not_implemented", "version_not_supported")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    await assert_works(gateway)


async def test_tls_on_the_plain_port_is_told_off_and_closed(gateway: RunningGateway) -> None:
    port = int(gateway.url.rpartition(":")[2])
    with pytest.raises(ssl.SSLError):
        await soon(asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context()), 5)
    await assert_works(gateway)


async def test_http_1_0_is_answered_and_closed_but_not_without_a_host(gateway: RunningGateway) -> None:
    async with raw(gateway) as connection:
        await connection.send(request("GET /health HTTP/1.0"))
        assert (await connection.last_answer()).body == b"OK"
    async with raw(gateway) as connection:
        await connection.send(request("GET /health HTTP/1.0", ()))
        answer = await connection.last_answer()
        assert (answer.status, answer.error["code"]) == (403, "forbidden_host")


async def test_a_target_that_is_a_url_names_the_host(gateway: RunningGateway) -> None:
    for host, status in (("localhost:1", 200), ("evil.example", 403), ("evil.example:80", 403)):
        async with raw(gateway) as connection:
            await connection.send(request(f"GET http://{host}/health?a=b HTTP/1.1"))
            assert (await connection.answer()).status == status


async def test_a_trailer_does_not_become_a_header(gateway: RunningGateway) -> None:
    body = b'{"command": "set_network", "args": "x"}'
    trailer = fresh_id("trailer")
    async with raw(gateway) as connection:
        head = request("POST /api/mcp-command HTTP/1.1", (HOST, JSON, CHUNKED))
        ending = b"0\r\nX-Session-Id: %b\r\n\r\n" % trailer.encode()
        await connection.send(head, b"%x\r\n%b\r\n" % (len(body), body), ending, pause=0.05)
        answer = await connection.answer()
    assert answer.status == 200
    assert answer.headers["x-session-id"] != trailer
