"""The mock model endpoint in Google's dialect (`models/NAME:streamGenerateContent`), for agents that speak no
other: contents into messages, the script's reply into candidates.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

PATH: Final = "/v1beta/models/{model}"
"""`{model}` ends in `:generateContent` or `:streamGenerateContent`."""


def request_of(body: dict[str, Any]) -> dict[str, Any]:
    """The request as OpenAI's chat completions have it."""
    declared = [tool for group in body.get("tools") or () for tool in group.get("functionDeclarations", ())]
    return {
        "messages": [_message(content) for content in body.get("contents") or ()],
        "tools": [{"function": {"name": tool["name"]}} for tool in declared],
    }


def _message(content: dict[str, Any]) -> dict[str, Any]:
    parts = content.get("parts") or ()
    results = [part["functionResponse"]["response"] for part in parts if "functionResponse" in part]
    if results:
        return {"role": "tool", "content": json.dumps(results)}
    role = "assistant" if content.get("role") == "model" else "user"
    return {"role": role, "content": "".join(part.get("text", "") for part in parts)}


def answer_of(message: dict[str, Any], used: tuple[int, int] = (1, 1)) -> dict[str, Any]:
    """The script's reply as one whole response."""
    parts: list[dict[str, Any]] = [{"text": message["content"]}] if message.get("content") else []
    for call in message.get("tool_calls", ()):
        function = call["function"]
        parts.append({"functionCall": {"name": function["name"], "args": json.loads(function["arguments"])}})
    return {
        "candidates": [{"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": used[0],
            "candidatesTokenCount": used[1],
            "totalTokenCount": sum(used),
        },
        "modelVersion": "gemini-fake",
    }


def events_of(message: dict[str, Any], used: tuple[int, int]) -> list[bytes]:
    """The reply as events: its words, one each, then how it ended."""
    words = re.findall(r"\s*\S+", message.get("content") or "")
    events: list[dict[str, Any]] = [
        {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": word}]}}]}
        for word in words
    ]
    events.append(answer_of({**message, "content": None}, used))
    return [b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events]
