"""What a session shows while a turn runs: ACP's `session/update` and `session/request_permission`.

Guarantees: updates leave in the order of the calls, and every shape here is one of the ACP schema's.
"""

from __future__ import annotations

import os
from typing import Any, Final, Literal

import msgspec

from worker.agent.loop import Io

Choice = Literal["allow_once", "allow_always", "reject_once", "reject_always", "cancelled"]

PERMISSION_OPTIONS: Final = [
    {"optionId": "allow_once", "name": "Allow once", "kind": "allow_once"},
    {"optionId": "allow_always", "name": "Always allow", "kind": "allow_always"},
    {"optionId": "reject_once", "name": "Reject", "kind": "reject_once"},
    {"optionId": "reject_always", "name": "Always reject", "kind": "reject_always"},
]


class _Outcome(msgspec.Struct, frozen=True, rename="camel"):
    outcome: str
    option_id: str = ""


class _QuestionResult(msgspec.Struct, frozen=True):
    action: str = "cancel"
    content: dict[str, Any] = {}


class _PermissionResult(msgspec.Struct, frozen=True):
    outcome: _Outcome


class Updates:
    """The display of one session."""

    def __init__(self, io: Io, session_id: str) -> None:
        self._io = io
        self._session_id = session_id

    def send(self, kind: str, /, **fields: Any) -> None:
        """One `session/update` of this kind."""
        update = {"sessionUpdate": kind, **fields}
        self._io.notify("session/update", {"sessionId": self._session_id, "update": update})

    def say(self, text: str) -> None:
        self.send("agent_message_chunk", content=text_block(text))

    def think(self, text: str) -> None:
        self.send("agent_thought_chunk", content=text_block(text))

    def plan(self, steps: list[tuple[str, str]]) -> None:
        """The whole plan: what each step is, and `pending`, `in_progress` or `completed`."""
        self.send(
            "plan",
            entries=[
                {"content": content, "priority": "medium", "status": status} for content, status in steps
            ],
        )

    async def ask_question(self, message: str, title: str) -> tuple[str, str]:
        """Asks the user for a text: the action (accept, decline, cancel) and the text. Raises RequestFailed
        if the client cannot ask.
        """
        properties = {"answer": {"type": "string", "title": title}}
        schema = {"type": "object", "properties": properties, "required": ["answer"]}
        params = {
            "sessionId": self._session_id,
            "mode": "form",
            "message": message,
            "requestedSchema": schema,
        }
        result = await self._io.call("elicitation/create", params, _QuestionResult)
        return result.action, str(result.content.get("answer", ""))

    async def ask(self, tool_call: dict[str, Any]) -> Choice:
        """Asks the user's permission; raises RequestFailed if the client cannot ask."""
        params = {"sessionId": self._session_id, "toolCall": tool_call, "options": PERMISSION_OPTIONS}
        result = await self._io.call("session/request_permission", params, _PermissionResult)
        if result.outcome.outcome != "selected":
            return "cancelled"
        match result.outcome.option_id:
            case "allow_once" | "allow_always" | "reject_always" as choice:
                return choice
            case _:
                return "reject_once"


def new_call_id() -> str:
    """Unique over revivals: the client's log still holds the calls of an earlier process."""
    return "call_" + os.urandom(8).hex()


def text_block(text: str) -> dict[str, Any]:
    """A text as an ACP content block."""
    return {"type": "text", "text": text}


def text_content(text: str) -> dict[str, Any]:
    """A text as content of a tool call."""
    return {"type": "content", "content": text_block(text)}


def diff_content(path: str, old: str | None, new: str) -> dict[str, Any]:
    """A change of a file as content of a tool call; `old` is None where the file is new."""
    return {"type": "diff", "path": path, "oldText": old, "newText": new}
