"""The mock model endpoint in Anthropic's dialect (`/v1/messages`): its requests into those of chat
completions, the script's reply into events.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any, Final

PATH: Final = "/v1/messages"
_numbers = itertools.count(1)


def request_of(body: dict[str, Any]) -> dict[str, Any]:
    """The request as OpenAI's chat completions have it."""
    messages: list[dict[str, Any]] = []
    for message in body.get("messages") or ():
        messages += _messages(message)
    tools = [{"function": {"name": tool["name"]}} for tool in body.get("tools") or () if "name" in tool]
    return {"messages": messages, "tools": tools, "stream": body.get("stream", False)}


def _messages(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"role": message["role"], "content": content}]
    results = [part for part in content or () if part.get("type") == "tool_result"]
    if results:
        return [{"role": "tool", "content": json.dumps([part.get("content") for part in results])}]
    said = [part["text"] for part in content or () if part.get("type") == "text"]
    return [{"role": message["role"], "content": said[-1] if said else ""}]


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = (
        [{"type": "text", "text": message["content"]}] if message.get("content") else []
    )
    for call in message.get("tool_calls", ()):
        function = call["function"]
        arguments = json.loads(function["arguments"])
        blocks.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments})
    return blocks


def _usage(used: tuple[int, int]) -> dict[str, int]:
    return {"input_tokens": used[0], "output_tokens": used[1], "cache_read_input_tokens": 3}


def whole_of(message: dict[str, Any], used: tuple[int, int], model: str) -> dict[str, Any]:
    """The reply as one document."""
    reason = "tool_use" if message.get("tool_calls") else "end_turn"
    return {
        **{"id": f"msg_{next(_numbers)}", "type": "message", "role": "assistant", "model": model},
        **{"content": _blocks(message), "stop_reason": reason, "stop_sequence": None, "usage": _usage(used)},
    }


def events_of(message: dict[str, Any], used: tuple[int, int], model: str) -> list[bytes]:
    """The reply as events, a word each."""
    whole = whole_of(message, used, model)
    start = {**whole, "content": [], "stop_reason": None, "usage": {**_usage(used), "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(whole["content"]):
        is_text = block["type"] == "text"
        empty = {"type": "text", "text": ""} if is_text else {**block, "input": {}}
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        words = re.findall(r"\s*\S+", block["text"]) if is_text else [json.dumps(block["input"])]
        for word in words:
            delta = (
                {"type": "text_delta", "text": word}
                if is_text
                else {"type": "input_json_delta", "partial_json": word}
            )
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": ended, "usage": {"output_tokens": used[1]}})
    events.append({"type": "message_stop"})
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
