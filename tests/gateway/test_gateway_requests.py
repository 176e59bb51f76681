"""Requests that are wrong, and what they are told: status, code, words; a good one works right after."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import aiohttp
import pytest

from tests.gateways import RunningGateway
from tests.shared import SHARED, fresh_id, shared_gateway

pytestmark = SHARED
gateway = shared_gateway()

JSON = {"Content-Type": "application/json"}
MIB = 1024 * 1024


async def refusal(gateway: RunningGateway, body: bytes, path: str = "/api/chat", **headers: str) -> Any:
    """Sends bytes as JSON; the status and the error of the answer."""
    async with gateway.http.post(path, data=body, headers={**JSON, **headers}) as response:
        answer = await response.json()
        assert answer["request_id"] == response.headers["X-Request-Id"]
        return response.status, answer["error"]


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        (b"not json", 400, "bad_request", "The body is not JSON"),
        (b'{"message": "cut', 400, "bad_request", "The body is not JSON"),
        (b'{"message": "\xff\xfe"}', 400, "bad_request", "The body is not JSON"),
        (b"[]", 422, "invalid_field", "Expected `object`"),
        (b"null", 422, "invalid_field", "Expected `object`"),
        (b'"message"', 422, "invalid_field", "Expected `object`"),
        (b"", 422, "invalid_field", "missing required field `message`"),
        (b"{}", 422, "invalid_field", "missing required field `message`"),
        (b'{"message": 1}', 422, "invalid_field", "$.message"),
        (b'{"message": null}', 422, "invalid_field", "$.message"),
        (b'{"message": ["a"]}', 422, "invalid_field", "$.message"),
        (b'{"message": ""}', 422, "invalid_field", "message is empty"),
        (b'{"message": " \\n\\t "}', 422, "invalid_field", "message is empty"),
        (b'{"message": "hi", "session_id": 5}', 422, "invalid_field", "$.session_id"),
        (b'{"message": "hi", "session_id": {"id": "a"}}', 422, "invalid_field", "$.session_id"),
        (b'{"message": "hi", "session_id": true}', 422, "invalid_field", "$.session_id"),
        (b'{"message": "hi", "agent": 5}', 422, "invalid_field", "$.agent"),
    ],
)
async def test_a_wrong_body_is_refused_with_words(
    gateway: RunningGateway, body: bytes, status: int, code: str, words: str
) -> None:
    before = await gateway.count()
    got, error = await refusal(gateway, body)
    assert (got, error["code"]) == (status, code)
    assert words in error["message"]
    assert await gateway.count() == before


@pytest.mark.parametrize("path", ["/api/interrupt", "/api/system", "/api/mcp-command", "/api/sessions"])
async def test_every_verb_refuses_what_is_no_json_object(gateway: RunningGateway, path: str) -> None:
    assert (await refusal(gateway, b"{", path))[0] == 400
    assert (await refusal(gateway, b"[1]", path))[0] == 422
    assert (await refusal(gateway, b'{"session_id": 7}', path))[0] == 422


@pytest.mark.parametrize("path", ["/api/system", "/api/mcp-command"])
async def test_the_other_verbs_need_their_fields(gateway: RunningGateway, path: str) -> None:
    status, error = await refusal(gateway, b"{}", path)
    assert status == 422
    assert "missing required field" in error["message"]


@pytest.mark.parametrize("path", ["/api/chat", "/api/system"])
async def test_a_message_past_the_limit_is_413_and_says_the_limit(gateway: RunningGateway, path: str) -> None:
    status, error = await refusal(gateway, json.dumps({"message": "x" * 32_769}).encode(), path)
    assert (status, error["code"]) == (413, "message_too_long")
    assert "32769" in error["message"]
    assert "32768" in error["message"]


async def test_the_message_limit_counts_bytes_and_is_met_exactly(gateway: RunningGateway) -> None:
    session_id = fresh_id("long")
    longest = "/echo " + "é" * ((32_768 - 6) // 2)
    assert (await gateway.chat(session_id, longest))["messages"][1]["content"] == longest[6:]
    status, _ = await refusal(gateway, json.dumps({"message": longest + "é"}, ensure_ascii=False).encode())
    assert status == 413


async def test_a_body_past_the_limit_is_413_also_without_a_length(gateway: RunningGateway) -> None:
    async with gateway.http.post("/api/chat", data=io.BytesIO(b" " * (MIB + 1)), headers=JSON) as response:
        assert response.status == 413
        assert (await response.json())["error"]["code"] == "body_too_large"

    async def chunks() -> Any:
        for _ in range(48):
            yield b" " * 65_536

    async with gateway.http.post("/api/chat", data=chunks(), headers=JSON) as response:
        assert response.status == 413


@pytest.mark.parametrize("opening", [b'{"a":', b"["])
async def test_json_that_is_too_deep_is_400(gateway: RunningGateway, opening: bytes) -> None:
    closing = b"}" if opening != b"[" else b"]"
    deep = opening * 65 + b"1" + closing * 65
    status, error = await refusal(gateway, b'{"command": "x", "args": ' + deep + b"}", "/api/mcp-command")
    assert (status, error["code"]) == (400, "bad_request")
    assert "64 levels" in error["message"]
    status, _ = await refusal(gateway, opening * 100_000)
    assert status == 400


async def test_brackets_inside_a_message_are_no_depth(gateway: RunningGateway) -> None:
    state = await gateway.chat(fresh_id(), '/echo {"[' + "[{" * 200 + ' "')
    assert state["messages"][1]["content"] == '{"[' + "[{" * 200 + ' "'


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
@pytest.mark.parametrize("path", ["/api/chat", "/api/interrupt", "/api/system", "/api/mcp-command"])
async def test_what_a_form_could_send_is_415_and_shows_the_curl_line(
    gateway: RunningGateway, path: str, kind: str
) -> None:
    status, error = await refusal(
        gateway, b'{"message": "hi", "command": "x"}', path, **{"Content-Type": kind}
    )
    assert (status, error["code"]) == (415, "wrong_media_type")
    assert f"curl -X POST {gateway.url}{path} -H 'Content-Type: application/json'" in error["message"]


async def test_json_with_a_charset_is_json(gateway: RunningGateway) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    async with gateway.http.post("/api/chat", data=b'{"message": "/echo hi"}', headers=headers) as response:
        assert response.status == 200


BAD_IDS = [".a", "a b", "a/b", "../a", "a\n", "é", "a" * 129, "a%3Ab", "\u0000", "a\r\nX: y", "a;b"]


@pytest.mark.parametrize("session_id", BAD_IDS)
async def test_a_malformed_id_is_422_wherever_it_stands(gateway: RunningGateway, session_id: str) -> None:
    body = {"message": "hi", "command": "list_servers", "session_id": session_id}
    for path in ("/api/chat", "/api/interrupt", "/api/system", "/api/mcp-command", "/api/sessions"):
        status, error = await refusal(gateway, json.dumps(body).encode(), path)
        assert (status, error["code"]) == (422, "malformed_session_id"), path
    for path in ("/api/state", "/api/chat/stream"):
        async with gateway.http.get(path, params={"session_id": session_id}) as response:
            assert response.status == 422
            assert (await response.json())["error"]["code"] == "malformed_session_id"


@pytest.mark.parametrize("session_id", ["a:b", "_x", "-x", ":x", "a.b-c_d:e", "Z" * 128, "0"])
async def test_every_well_formed_id_works(gateway: RunningGateway, session_id: str) -> None:
    assert (await gateway.chat(session_id, "/echo hi"))["session_id"] == session_id
    assert (await gateway.delete(session_id))["receipt"]["survivors"] == 0


async def test_ids_that_differ_in_case_or_colon_are_different_sessions(gateway: RunningGateway) -> None:
    for session_id in ("look", "LOOK", "loo:k", "look."):
        await gateway.post("/api/system", {"message": f"I am {session_id}", "session_id": session_id})
    for session_id in ("look", "LOOK", "loo:k", "look."):
        said = [message["content"] for message in (await gateway.state(session_id))["messages"]]
        assert said == [f"I am {session_id}"]


async def test_an_unknown_agent_is_422_and_names_those_there_are(gateway: RunningGateway) -> None:
    before = await gateway.count()
    for path, body in (
        ("/api/chat", {"message": "hi", "agent": "nope"}),
        ("/api/sessions", {"agent": "nope"}),
    ):
        error = (await gateway.post(path, body, status=422))["error"]
        assert error["code"] == "unknown_agent"
        assert "'nope'" in error["message"]
        assert "built-in" in error["message"]
    assert await gateway.count() == before


async def test_an_unknown_agent_is_422_for_a_known_session_too(gateway: RunningGateway) -> None:
    session_id = fresh_id("known")
    await gateway.chat(session_id, "/echo hi")
    body = {"message": "hi", "agent": "nope", "session_id": session_id}
    assert (await gateway.post("/api/chat", body, status=422))["error"]["code"] == "unknown_agent"


@pytest.mark.parametrize(
    "query", ["wait=-1", "wait=601", "wait=soon", "wait=1e3", "wait=", "wait=999999999999999999999"]
)
async def test_a_wait_that_is_no_number_of_seconds_is_422(gateway: RunningGateway, query: str) -> None:
    error = (await gateway.post(f"/api/chat?{query}", {"message": "hi"}, status=422))["error"]
    assert "wait is a whole number from 0 to 600" in error["message"]


async def test_a_view_that_does_not_exist_is_422(gateway: RunningGateway) -> None:
    async with gateway.http.get("/api/chat/stream", params={"view": "all"}) as response:
        assert response.status == 422


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_a_malformed_idempotency_key_is_422(gateway: RunningGateway, key: str) -> None:
    status, error = await refusal(gateway, b'{"message": "hi"}', **{"Idempotency-Key": key})
    assert (status, error["code"]) == (422, "invalid_field")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/chat"), ("PUT", "/api/chat"), ("POST", "/api/state"), ("DELETE", "/api/sessions")],
)
async def test_a_method_that_an_address_does_not_take_is_405(
    gateway: RunningGateway, method: str, path: str
) -> None:
    async with gateway.http.request(method, path) as response:
        assert response.status == 405
        assert (await response.json())["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/nothing/here", "/api/", "/api/sessions/a/b"])
async def test_an_unknown_address_is_404_as_json_with_the_request_id(
    gateway: RunningGateway, path: str
) -> None:
    async with gateway.http.get(path, headers={"X-Request-Id": "mine-1"}, allow_redirects=False) as response:
        assert response.status == 404
        answer = await response.json()
        assert answer["error"]["code"] == "not_found"
        assert answer["request_id"] == response.headers["X-Request-Id"] == "mine-1"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/sessions/nobody", None),
        ("DELETE", "/api/sessions/nobody", None),
        ("PATCH", "/api/sessions/nobody", {"title": "x"}),
        ("GET", "/api/sessions/nobody/export", None),
        ("POST", "/api/sessions/nobody/permission", {"permission_id": "p", "option_id": "o"}),
        ("POST", "/api/sessions/nobody/queue", {"action": "drop"}),
        ("POST", "/api/sessions/nobody/restart", None),
    ],
)
async def test_on_the_other_routes_a_session_that_is_not_there_is_404(
    gateway: RunningGateway, method: str, path: str, body: Any
) -> None:
    before = await gateway.count()
    async with gateway.http.request(method, path, json=body) as response:
        assert response.status == 404
        error = (await response.json())["error"]
    assert error["code"] == "session_not_found"
    assert error["session_id"] == "nobody"
    assert await gateway.count() == before


async def test_a_session_cannot_be_made_twice(gateway: RunningGateway) -> None:
    session_id = fresh_id("made")
    made = await gateway.post(
        "/api/sessions", {"session_id": session_id, "title": " A \n title "}, status=201
    )
    assert (made["session_id"], made["title"], made["state"]) == (session_id, "A title", "parked")
    error = (await gateway.post("/api/sessions", {"session_id": session_id}, status=409))["error"]
    assert error["code"] == "session_exists"


async def test_a_good_request_works_on_the_connection_of_a_bad_one(gateway: RunningGateway) -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(gateway.url, connector=connector) as http:
        for body in (b"nonsense", b"[]", b'{"message": 1}'):
            async with http.post("/api/chat", data=body, headers=JSON) as response:
                assert response.status in (400, 422)
        async with http.get("/health") as response:
            assert await response.text() == "OK"
    assert "Traceback" not in gateway.log()


async def test_a_session_is_made_once_for_one_key(gateway: RunningGateway) -> None:
    key = {"Idempotency-Key": fresh_id("made-once")}
    made = await asyncio.gather(
        *(gateway.post("/api/sessions", {"title": "T"}, status=201, headers=key) for _ in range(5))
    )
    assert len({session["session_id"] for session in made}) == 1
    refused = await gateway.post("/api/sessions", {"title": "other"}, status=422, headers=key)
    assert refused["error"]["code"] == "idempotency_mismatch"
