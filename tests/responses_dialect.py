"""The mock model endpoint in the dialect of OpenAI's responses (`/v1/responses`): its requests into those of
chat completions, the script's reply into events.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

PATH: Final = "/v1/responses"


def request_of(body: dict[str, Any]) -> dict[str, Any]:
    """The request as OpenAI's chat completions have it."""
    given = body.get("input")
    items = given if isinstance(given, list) else [{"role": "user", "content": given or ""}]
    messages = [_message(item) for item in items if isinstance(item, dict)]
    tools = [{"function": {"name": name}} for name in _names(body.get("tools") or ())]
    return {"messages": [one for one in messages if one], "tools": tools, "stream": body.get("stream", False)}


def _names(tools: Any) -> list[str]:
    found: list[str] = []
    for tool in tools:
        found += _names(tool["tools"]) if isinstance(tool.get("tools"), list) else [tool.get("name", "")]
    return found


def _message(item: dict[str, Any]) -> dict[str, Any]:
    if str(item.get("type", "")).endswith("_call_output"):
        output = item.get("output")
        return {"role": "tool", "content": output if isinstance(output, str) else json.dumps(output)}
    if "role" not in item:
        return {}
    content = item.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    return {"role": item["role"], "content": content or ""}


def _items(message: dict[str, Any]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if message.get("content"):
        text = {"type": "output_text", "text": message["content"], "annotations": []}
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        items.append({**item, "content": [text]})
    for call in message.get("tool_calls", ()):
        function = call["function"]
        named = {"name": function["name"], "arguments": function["arguments"]}
        item = {"type": "function_call", "id": "fc_1", "call_id": call["id"], "status": "completed"}
        items.append({**item, **named})
    return items


def whole_of(message: dict[str, Any], used: tuple[int, int], model: str) -> dict[str, Any]:
    """The reply as one document."""
    usage = {
        **{"input_tokens": used[0] + 3, "output_tokens": used[1], "total_tokens": sum(used) + 3},
        **{"input_tokens_details": {"cached_tokens": 3}, "output_tokens_details": {"reasoning_tokens": 0}},
    }
    head = {"id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": "completed"}
    return {**head, "model": model, "output": _items(message), "usage": usage, "error": None}


def events_of(message: dict[str, Any], used: tuple[int, int], model: str) -> list[bytes]:
    """The reply as events, a word each."""
    whole = whole_of(message, used, model)
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": started}]
    for index, item in enumerate(whole["output"]):
        empty = {**item, "status": "in_progress", **({"content": []} if "content" in item else {})}
        events.append({"type": "response.output_item.added", "output_index": index, "item": empty})
        if item["type"] == "message":
            place = {"item_id": item["id"], "output_index": index, "content_index": 0}
            words = re.findall(r"\s*\S+", item["content"][0]["text"])
            events += [{"type": "response.output_text.delta", **place, "delta": word} for word in words]
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": whole})
    return [
        f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n".encode()
        for number, event in enumerate(events)
    ]
