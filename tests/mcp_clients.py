"""MCP as clients speak it: a bare one over HTTP, for what an SDK would not send, and words for results."""

from __future__ import annotations

import itertools
from typing import Any, Final

import aiohttp

LINE_ENDS: Final = "\u2028\u2029\u0085"
"""What Unicode counts as ends of lines, and JSON does not escape."""
PRODUCT: Final = "nitzat-haduvdevan:{}"
"""The id of the n-th product of the catalogue that comes along."""
_ids = itertools.count(1)


async def post(http: aiohttp.ClientSession, body: object, **headers: str) -> tuple[int, Any, Any]:
    """Posts to /mcp as it stands: (status, headers, JSON or text)."""
    payload = {"data": body} if isinstance(body, bytes) else {"json": body}
    named = {"Content-Type": "application/json", **{name.replace("_", "-"): v for name, v in headers.items()}}
    async with http.post("/mcp", headers=named, **payload) as response:
        is_json = response.content_type == "application/json"
        return response.status, response.headers, await (response.json() if is_json else response.text())


def call(
    tool: str, arguments: object = None, *, meta: object = None, outer: object = None, **params: Any
) -> dict[str, Any]:
    """A tools/call, with `_meta` inside the params and beside them."""
    named: dict[str, Any] = {"name": tool, "arguments": arguments if arguments is not None else {}, **params}
    if meta is not None:
        named["_meta"] = meta
    message = {"jsonrpc": "2.0", "id": next(_ids), "method": "tools/call", "params": named}
    return message if outer is None else {**message, "_meta": outer}


async def result(http: aiohttp.ClientSession, message: object, **headers: str) -> Any:
    """The result of a message that must succeed."""
    status, _, body = await post(http, message, **headers)
    assert status == 200, body
    assert "result" in body, body
    return body["result"]


async def said(http: aiohttp.ClientSession, tool: str, arguments: object = None, **kwargs: Any) -> str:
    """The text of a tool that must not refuse."""
    answer = await result(http, call(tool, arguments, **kwargs))
    assert not answer["isError"], answer
    return text_of(answer)


async def refusal(http: aiohttp.ClientSession, tool: str, arguments: object = None, **kwargs: Any) -> str:
    """The text of a tool that must refuse."""
    answer = await result(http, call(tool, arguments, **kwargs))
    assert answer["isError"] is True, answer
    assert text_of(answer).startswith("❌"), answer
    return text_of(answer)


async def cart(http: aiohttp.ClientSession, session_id: str) -> Any:
    """The structured cart of a conversation."""
    answer = await result(http, call("view_cart", meta={"sessionId": session_id}))
    return answer["structuredContent"]


def text_of(answer: Any) -> str:
    """The first text of a result."""
    return str(answer["content"][0]["text"])
