"""Compressed answers: for whom, of which size, and that they are what they were."""

from __future__ import annotations

import asyncio
import gzip
import pathlib
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.http import packing
from gateway.http.packing import PADDING_BYTES, packed

TEXT: Final = b'{"messages": [' + b'{"content": "hello"}, ' * 20_000 + b"{}]}"
GATEWAY: Final = pathlib.Path(packing.__file__).parent.parent


def request(accepts: str = "gzip, deflate, br", client: str = "203.0.113.7") -> Request:
    headers = [(b"accept-encoding", accepts.encode())] if accepts else []
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""}
    return Request({**scope, "client": (client, 1)})


async def sent(response: Response) -> tuple[dict[str, str], bytes, list[bytes]]:
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: Any) -> None:
        messages.append(message)

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    await response(scope, receive, send)
    parts = [message["body"] for message in messages[1:]]
    headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
    return headers, b"".join(parts), parts


async def parts_of(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_long_answer_is_compressed_and_is_what_it_was(is_stream: bool) -> None:
    json = "application/json"
    plain = (
        StreamingResponse(parts_of(TEXT, 1000), media_type=json)
        if is_stream
        else Response(TEXT, media_type=json)
    )
    headers, body, _ = await sent(packed(request(), plain))
    assert gzip.decompress(body) == TEXT
    assert len(body) < len(TEXT) / 20
    assert headers["content-encoding"] == "gzip"
    assert headers["vary"] == "Accept-Encoding"
    assert headers["content-type"] == json
    assert "content-length" not in headers


@pytest.mark.parametrize("accepts", ["", "identity", "br", "gzip;q=0", "*;q=0, br"])
async def test_who_does_not_take_it_gets_it_as_it_is(accepts: str) -> None:
    headers, body, _ = await sent(packed(request(accepts), Response(TEXT)))
    assert body == TEXT
    assert headers["vary"] == "Accept-Encoding"
    assert "content-encoding" not in headers


async def test_on_this_machine_and_for_little_it_is_not_worth_it() -> None:
    for asked, content in (
        (request(client="127.0.0.1"), TEXT),
        (request(client="::1"), TEXT),
        (request(), b"{}"),
    ):
        headers, body, _ = await sent(packed(asked, Response(content)))
        assert (body, headers["content-length"]) == (content, str(len(content)))


async def test_others_have_their_turn_meanwhile() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    await sent(packed(request(), Response(TEXT)))
    task.cancel()
    assert turns >= len(TEXT) // packing.SLICE_BYTES


async def test_the_length_of_the_same_answer_differs() -> None:
    lengths = [len((await sent(packed(request(), Response(TEXT))))[1]) for _ in range(12)]
    assert len(set(lengths)) > 3
    assert max(lengths) - min(lengths) < PADDING_BYTES


def test_only_what_the_module_names_is_compressed() -> None:
    """Whoever adds a place has to look at what the module says of it, and at this list."""
    found = {
        str(path.relative_to(GATEWAY))
        for path in GATEWAY.rglob("*.py")
        if re.search(r"\bpacked\(request", path.read_text()) and path.name != "packing.py"
    }
    assert found == {"api/chat.py", "api/history.py", "api/sessions.py", "http/application.py"}
