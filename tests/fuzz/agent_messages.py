"""Every message that an agent may send, once and whole: what `mutations` makes its mistakes of."""

from __future__ import annotations

from typing import Any, Final


def _update(which: str, **members: Any) -> dict[str, Any]:
    update = {"sessionUpdate": which, **members}
    return {"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "a", "update": update}}


def _request(number: int, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def _notification(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


_TEXT: Final = {"type": "text", "text": "word"}
_CALL: Final = {
    "toolCallId": "c",
    "title": "Edit",
    "kind": "edit",
    "status": "pending",
    "content": [{"type": "diff", "path": "/x", "oldText": None, "newText": "y"}],
    "locations": [{"path": "/x", "line": 3}],
    "rawInput": {"path": "/x", "lines": [1, 2]},
    "rawOutput": {"count": 1},
    "_meta": {"more": {"more": 1}},
}

SAID: Final[list[dict[str, Any]]] = [
    _update("agent_message_chunk", content=_TEXT, messageId="m"),
    _update("agent_message_chunk", content={"type": "image", "data": "AAAA", "mimeType": "image/png"}),
    _update("agent_thought_chunk", content=_TEXT, messageId="m"),
    _update("user_message_chunk", content=_TEXT),
    _update("tool_call", **_CALL),
    _update("tool_call_update", **_CALL),
    _update("plan", entries=[{"content": "p", "priority": "high", "status": "pending"}]),
    _update(
        "available_commands_update", availableCommands=[{"name": "c", "description": "d", "input": None}]
    ),
    _update("current_mode_update", currentModeId="m"),
    _update("config_option_update", configOptions=[{"id": "o", "name": "O", "currentValue": 1}]),
    _update(
        "config_option_update",
        configOptions=[
            {"id": "s", "type": "select", "currentValue": "v", "options": [{"value": "v"}]},
            {"id": "g", "type": "select", "currentValue": "v", "options": [{"options": [{"value": "v"}]}]},
            {"id": "b", "type": "boolean", "currentValue": True},
        ],
    ),
    _update("session_info_update", title="Title", updatedAt="2026-01-01T00:00:00Z"),
    _update("usage_update", used=5, size=10, cost={"amount": 0.1, "currency": "USD"}),
    _update("kind_of_tomorrow", value=1),
    _request(
        7,
        "session/request_permission",
        sessionId="a",
        toolCall=_CALL,
        options=[{"optionId": "y", "name": "Yes", "kind": "allow_once"}],
    ),
    _request(
        12,
        "elicitation/create",
        sessionId="a",
        toolCallId="c",
        mode="form",
        message="Which?",
        requestedSchema={
            "type": "object",
            "properties": {
                "text": {"type": "string", "title": "T", "pattern": "^a+$", "minLength": 1, "default": "a"},
                "one": {"type": "string", "oneOf": [{"const": "x", "title": "X"}]},
                "many": {"type": "array", "items": {"anyOf": [{"const": "y"}]}, "maxItems": 1},
                "number": {"type": "integer", "minimum": 1, "maximum": 2},
            },
            "required": ["text"],
        },
    ),
    _request(
        13,
        "elicitation/create",
        sessionId="a",
        mode="url",
        message="There",
        url="https://example.org/x",
        elicitationId="e",
    ),
    _notification("elicitation/complete", elicitationId="e"),
    _notification("$/cancel_request", requestId=12),
    _request(8, "fs/read_text_file", sessionId="a", path="/x", line=1, limit=2),
    _notification("_session/wallet", transaction={"to": "0x0", "value": 1}),
    _notification("_session/forgot", messages=3),
    _notification("$/progress", token=1),
]
"""What any agent may say in a turn."""

BUILT_IN: Final[list[dict[str, Any]]] = [
    _request(
        9, "_model/stream", sessionId="a", model="m", messages=[{"role": "user", "content": "x"}], tools=[]
    ),
    _notification("_model/cancel", requestId=9),
    _request(10, "_tools/list"),
    _request(11, "_tools/call", name="search_products", arguments={"query": "x", "limit": 3}),
]
"""What the built-in agent asks besides."""

ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "initialize": {
        "jsonrpc": "2.0",
        "id": 0,
        "result": {
            "protocolVersion": 1,
            "agentCapabilities": {"loadSession": True, "sessionCapabilities": {"resume": {}}},
            "agentInfo": {"name": "x", "title": "X", "version": "1"},
            "authMethods": [
                {"id": "a", "name": "A", "type": "terminal", "args": ["login"], "vars": [{"name": "KEY"}]}
            ],
        },
    },
    "session/new": {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {
            "sessionId": "a",
            "modes": {"currentModeId": "m", "availableModes": [{"id": "m", "name": "M"}]},
            "configOptions": [{"id": "o", "name": "O"}],
        },
    },
    "session/prompt": {
        "jsonrpc": "2.0",
        "id": 2,
        "result": {"stopReason": "end_turn", "usage": {"inputTokens": 1, "outputTokens": 2}},
    },
}
"""How an agent answers the gateway, in the order of its requests."""

FAILURE: Final[dict[str, Any]] = {
    "jsonrpc": "2.0",
    "id": 2,
    "error": {"code": -32603, "message": "no", "data": {"code": "c", "retryable": True}},
}
"""A prompt that the agent fails."""
