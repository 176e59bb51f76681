"""Several requests on one connection, connections that are half closed or left, upgrades, and the headers of
every answer.
"""

from __future__ import annotations

import json

import pytest

from tests.gateways import RunningGateway
from tests.raw import assert_works, post, raw, request
from tests.shared import SHARED, eventually, fresh_id, shared_gateway

pytestmark = SHARED
gateway = shared_gateway("[limits]\nwaiting_streams_per_owner = 4")

HOST = "Host: localhost"
BAD = {
    "a negative length": (request("POST /api/chat HTTP/1.1", (HOST, "Content-Length: -1")), 400),
    "a chunk of no size": (
        request("POST /api/chat HTTP/1.1", (HOST, "Transfer-Encoding: chunked"), b"zz\r\n"),
        400,
    ),
    "HTTP/9.9": (request("GET /health HTTP/9.9"), 505),
    "another protocol": (b"EHLO example.org\r\n", 400),
}


# -- one connection, several requests ----------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_their_order(gateway: RunningGateway) -> None:
    session_id = fresh_id("pipe")
    body = json.dumps({"message": "/echo hi", "session_id": session_id}).encode()
    count = request("GET /api/sessions/count HTTP/1.1")
    async with raw(gateway) as connection:
        await connection.send(request() + post(body) + count + request("GET /nothing HTTP/1.1") + request())
        answers = [await connection.answer() for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 404, 200]
    assert json.loads(answers[1].body)["session_id"] == session_id
    assert "active_sessions" in json.loads(answers[2].body)


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_request_behind_good_ones_is_refused_after_their_answers(
    gateway: RunningGateway, bad: str
) -> None:
    data, status = BAD[bad]
    chat = post(b'{"message": "/echo hi"}', path="/api/chat?wait=240")
    async with raw(gateway) as connection:
        await connection.send(chat + request() + data + request())
        assert [(await connection.answer()).status for _ in range(2)] == [200, 200]
        assert (await connection.last_answer()).status == status


async def test_a_flood_of_pipelined_requests_is_bounded(gateway: RunningGateway) -> None:
    async with raw(gateway) as connection:
        await connection.send(request() * 1000)
        received = await connection.rest()
    assert 64 <= received.count(b"HTTP/1.1 200") <= 200
    assert received.count(b"HTTP/1.1 429") == 1
    assert b"retry-after" in received


async def test_a_request_waits_behind_a_stream_and_both_end_with_the_client(gateway: RunningGateway) -> None:
    stream = request(f"GET /api/chat/stream?session_id={fresh_id('nobody')} HTTP/1.1")
    for _ in range(12):  # three times as many as may be open
        async with raw(gateway) as connection:
            await connection.send(stream + request())
            assert b" 200 " in await connection.reader.readuntil(b"\r\n")

        async def is_admitted() -> bool:
            async with gateway.http.get("/api/chat/stream?session_id=nobody-at-all") as response:
                return response.status == 200

        await eventually(is_admitted)


async def test_expect_100_continue_is_said_only_to_those_who_are_read(gateway: RunningGateway) -> None:
    body = b'{"message": "/echo hi"}'
    wanted = post(body, "Expect: 100-continue")[: -len(body)]
    async with raw(gateway) as connection:
        await connection.send(wanted)
        assert (await connection.answer()).status == 100
        await connection.send(body)
        assert (await connection.answer()).status == 200
    for refused in (wanted.replace(b"/api/chat", b"/nothing!"), wanted.replace(b"localhost", b"evil.test")):
        async with raw(gateway) as connection:
            await connection.send(refused)
            assert (await connection.last_answer()).status in (403, 404)


async def test_nobody_is_told_to_go_on_with_a_body_that_is_too_large(gateway: RunningGateway) -> None:
    large = post(b"", "Expect: 100-continue").replace(b"Content-Length: 0", b"Content-Length: 2097152")
    async with raw(gateway) as connection:
        await connection.send(large)
        assert (await connection.last_answer()).status == 413


async def test_a_client_that_closes_its_half_is_still_answered(gateway: RunningGateway) -> None:
    chat = post(b'{"message": "/echo hi"}', path="/api/chat?wait=240")
    for data in (request(), chat):
        async with raw(gateway) as connection:
            await connection.send(data)
            connection.writer.write_eof()
            assert (await connection.answer()).status == 200
            assert await connection.rest(seconds=2) == b""


@pytest.mark.parametrize("sent", [b"", b"GET / HT", post(b'{"message": "hi"}')[:-5], request(headers=())])
async def test_a_client_that_leaves_in_the_middle_leaves_no_trace(
    gateway: RunningGateway, sent: bytes
) -> None:
    async with raw(gateway) as connection:
        await connection.send(sent)
    async with raw(gateway) as connection:
        await connection.send(sent)
        connection.writer.write_eof()
        await connection.rest(seconds=3)
    await assert_works(gateway)


async def test_the_head_of_a_stream_is_all_that_head_gets(gateway: RunningGateway) -> None:
    async with raw(gateway) as connection:
        await connection.send(request("HEAD /api/chat/stream?session_id=nobody HTTP/1.1") + request())
        answer = await connection.answer(is_head=True)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert (await connection.answer()).body == b"OK"
    await assert_works(gateway)


# -- upgrades and headers ----------------------------------------------------------------------------------

HANDSHAKE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")


@pytest.mark.parametrize("path", ["/", "/api/chat/stream", "/wss/chat/session/a", "/health"])
async def test_a_websocket_handshake_is_refused_with_words(gateway: RunningGateway, path: str) -> None:
    version = "Sec-WebSocket-Version: 13"
    for origin, status in (
        ((), 400),
        (("Origin: http://localhost:1",), 400),
        (("Origin: https://evil.x",), 403),
    ):
        async with raw(gateway) as connection:
            line = f"GET {path} HTTP/1.1"
            await connection.send(request(line, (HOST, *HANDSHAKE, version, *origin), b"\x81\x85mask hello"))
            answer = await connection.last_answer()
        assert answer.status == status
        assert "WebSocket" in answer.error["message"] or status == 403
    await assert_works(gateway)


async def test_another_upgrade_is_ignored_as_http_allows(gateway: RunningGateway) -> None:
    async with raw(gateway) as connection:
        await connection.send(request(headers=(HOST, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings")))
        answer = await connection.answer()
    assert (answer.status, answer.body) == (200, b"OK")


H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA",
)
BODIES = {
    "length": (("Content-Length: 29",), b'{"command": "list_servers"  }\n'[:29]),
    "chunked": (
        ("Transfer-Encoding: chunked",),
        b'4\r\n{"co\r\n19\r\nmmand": "list_servers"  }\r\n0\r\n\r\n',
    ),
}


@pytest.mark.parametrize("framing", BODIES)
@pytest.mark.parametrize("step", [1, 7, 10_000])
async def test_a_body_behind_an_upgrade_that_is_ignored_is_read(
    gateway: RunningGateway, framing: str, step: int
) -> None:
    headers, body = BODIES[framing]
    line = "POST /api/mcp-command HTTP/1.1"
    post = request(line, (HOST, *H2C, "Content-Type: application/json", *headers), body)
    everything = post + request(headers=(HOST, *H2C)) + post + request(headers=(HOST, "Connection: close"))
    async with raw(gateway) as connection:
        pieces = [everything[start : start + step] for start in range(0, len(everything), step)]
        await connection.send(*pieces)
        answers = [await connection.answer() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 200]
    assert b'"success":true' in answers[0].body
    assert answers[0].body == answers[2].body
    assert answers[1].body == b"OK"


async def test_a_header_ends_before_its_trailing_blanks(gateway: RunningGateway) -> None:
    headers = (HOST, "X-Request-Id: named \t ", "Last-Event-ID:  7\t", "Host2: a ")
    async with raw(gateway) as connection:
        await connection.send(request(headers=headers))
        answer = await connection.answer()
    assert answer.headers["x-request-id"] == "named"


@pytest.mark.parametrize(
    "path", ["/api/state", "/health", "/nothing", "/openapi.json", "/api/chat/stream?view=x"]
)
async def test_answers_are_kept_by_nobody_run_as_no_page_and_name_no_server(
    gateway: RunningGateway, path: str
) -> None:
    async with gateway.http.get(path) as response:
        assert "Server" not in response.headers
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert response.headers["Referrer-Policy"] == "no-referrer"
