"""Spans of what happens within a turn, made from the session's log: one for each tool call (`execute_tool`),
one for each wait for an answer of a person or a rule.

Guarantees: a span begins and ends when its events happened; every span ends: with its own event, with its
turn, with its worker, or with the session. It says what people and agents wrote only if the operator wants
it (`telemetry.capture_content`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw, Struct

from gateway.events import facts as ev
from gateway.sessions.queue import Turn
from gateway.telemetry.metrics import OTHER, answer_kind
from gateway.telemetry.tracing import CONTENT_CHARACTERS, NO_SPAN, NO_TRACER, Span, Tracer

OPEN_SPANS: Final = 256
"""Of one session at once; a call beyond is not traced."""
NAME_CHARACTERS: Final = 200
TOOL: Final = "execute_tool"
_ENDED: Final = {"completed": "", "failed": "tool_failed"}
"""By the status of a call that is over: the slug of its error."""

Attributes = dict[str, str | int]


class _Open(Struct):
    """A span that has begun."""

    span: Span
    operation: str
    turn_id: str
    attributes: Attributes
    """What is known since it began."""
    kind: str = OTHER
    """ACP's kind of tool call."""
    options: dict[str, str] = {}
    """Of a permission request: the kinds of its options by their ids."""


class Spans:
    """See the module."""

    def __init__(
        self,
        tracer: Tracer,
        *,
        traced: Callable[[str], Attributes],
        tool_name: Callable[[str], str],
        captures_content: Callable[[], bool],
    ) -> None:
        """`traced` gives what every span of the session says, by its operation; `tool_name` the name of the
        tool of a call, if the agent says one.
        """
        self._tracer = tracer
        self._traced = traced
        self._tool_name = tool_name
        self._captures_content = captures_content
        self._open: dict[str, _Open] = {}
        self._ended: set[str] = set()
        """Tool calls of this turn that are over: what comes later of them begins no other span."""
        self._turn: tuple[str, Span] = ("", NO_SPAN)

    def appended(self, event: ev.Event, turn: Turn | None) -> None:
        """An event became visible; `turn` is the one that runs."""
        if self._tracer is NO_TRACER or event.kind not in _KINDS:
            return
        match event.data:
            case ev.TurnStarted(turn_id=turn_id):
                self._ended.clear()
                is_its = turn is not None and turn.turn_id == turn_id
                self._turn = (turn_id, turn.span if turn is not None and is_its else NO_SPAN)
            case ev.ToolCall() as call:
                self._on_call(call, event.at)
            case ev.PermissionAsked() as asked:
                self._on_permission(asked, event.at)
            case ev.PermissionAnswered() as answered:
                self._on_permission_answered(answered, event.at)
            case ev.QuestionAsked() as question:
                self._on_question(question, event.at)
            case ev.QuestionAnswered() as answer:
                self._on_question_answered(answer, event.at)
            case ev.TurnEnded(turn_id=turn_id, stop_reason=reason):
                self._end_all(turn_id, event.at, error="" if reason == "end_turn" else clipped(reason))
            case ev.TurnInterrupted(turn_id=turn_id, reason=reason):
                self._end_all(turn_id, event.at, error=reason)
            case ev.WorkerEnded(reason=reason):
                self._end_all("", event.at, error=reason)

    def close(self, reason: str) -> None:
        """The session leaves the memory: nothing of it goes on."""
        self._end_all("", None, error=reason)
        self._turn = ("", NO_SPAN)

    # -- tool calls -----------------------------------------------------------------------------------------

    def _on_call(self, call: ev.ToolCall, at: int) -> None:
        key = call.tool_call_id
        if key in self._ended:
            return
        if key not in self._open:
            self._begin(key, call.turn_id, TOOL, at, {"gen_ai.tool.call.id": clipped(key)})
        known = self._open.get(key)
        if known is None:
            return
        if isinstance(call.kind, str) and call.kind:
            known.kind = clipped(call.kind)
        if isinstance(call.status, str):
            known.attributes["agent_gateway.tool.status"] = clipped(call.status)
        if self._captures_content():
            known.attributes |= _content_of(call)
        if call.status in _ENDED:
            self._end(key, at, error=_ENDED[str(call.status)])

    # -- waits for an answer --------------------------------------------------------------------------------

    def _on_permission(self, asked: ev.PermissionAsked, at: int) -> None:
        said: Attributes = {}
        if asked.tool_call_id:
            said["gen_ai.tool.call.id"] = clipped(asked.tool_call_id)
        if self._captures_content():
            said["agent_gateway.permission.title"] = asked.title[:CONTENT_CHARACTERS]
        self._begin(asked.permission_id, asked.turn_id, "await_permission", at, said)
        if (known := self._open.get(asked.permission_id)) is not None:
            known.options = {option.option_id: option.kind for option in asked.options}

    def _on_permission_answered(self, answered: ev.PermissionAnswered, at: int) -> None:
        if (known := self._open.get(answered.permission_id)) is None:
            return
        outcome = answer_kind(known.options.get(answered.option_id or ""))
        known.attributes["agent_gateway.permission.outcome"] = outcome
        if isinstance(answered.rule, ev.NamedRule):
            known.attributes["agent_gateway.permission.rule"] = answered.rule.rule_id
        self._end(answered.permission_id, at)

    def _on_question(self, asked: ev.QuestionAsked, at: int) -> None:
        said: Attributes = {"agent_gateway.question.mode": asked.mode}
        if asked.tool_call_id:
            said["gen_ai.tool.call.id"] = clipped(asked.tool_call_id)
        if self._captures_content():
            said["agent_gateway.question.message"] = asked.message
        self._begin(asked.question_id, asked.turn_id, "await_answer", at, said)

    def _on_question_answered(self, answered: ev.QuestionAnswered, at: int) -> None:
        if (known := self._open.get(answered.question_id)) is None:
            return
        known.attributes["agent_gateway.question.outcome"] = answered.outcome
        if answered.content is not None and self._captures_content():
            text = msgspec.json.encode(answered.content).decode()
            known.attributes["agent_gateway.question.answer"] = text[:CONTENT_CHARACTERS]
        self._end(answered.question_id, at)

    # -- beginning and ending -------------------------------------------------------------------------------

    def _begin(self, key: str, turn_id: str, operation: str, at: int, attributes: Attributes) -> None:
        if len(self._open) >= OPEN_SPANS:
            return
        turn_known, parent = self._turn
        span = self._tracer.start(
            operation,
            parent=parent if turn_id == turn_known else None,
            attributes=self._traced(operation) | attributes,
            at_ms=at,
        )
        self._open[key] = _Open(span, operation, turn_id, {})

    def _end(self, key: str, at: int | None, *, error: str = "") -> None:
        known = self._open.pop(key)
        name = ""
        if known.operation == TOOL:
            self._ended.add(key)
            tool = clipped(self._tool_name(key)) or known.kind
            name = f"{TOOL} {tool}"
            known.attributes |= {"gen_ai.tool.name": tool, "agent_gateway.tool.kind": known.kind}
        known.span.end(name=name, error=error, attributes=known.attributes, at_ms=at)

    def _end_all(self, turn_id: str, at: int | None, *, error: str) -> None:
        """Those of one turn; of every turn if it is empty."""
        for key in [key for key, known in self._open.items() if turn_id in ("", known.turn_id)]:
            self._end(key, at, error=error)


_KINDS: Final = (
    *(ev.TurnStarted, ev.TurnEnded, ev.TurnInterrupted, ev.WorkerEnded, ev.ToolCall),
    *(ev.PermissionAsked, ev.PermissionAnswered, ev.QuestionAsked, ev.QuestionAnswered),
)


def clipped(text: str) -> str:
    """An agent's word, as long as an attribute may be."""
    return text[:NAME_CHARACTERS]


def _content_of(call: ev.ToolCall) -> Attributes:
    """What goes into the tool and what came out, as far as this event says it."""
    said: Attributes = {}
    if isinstance(call.title, str):
        said["agent_gateway.tool.title"] = call.title[:CONTENT_CHARACTERS]
    if isinstance(call.raw_input, Raw):
        said["gen_ai.tool.call.arguments"] = _text(call.raw_input)
    if isinstance(call.raw_output, Raw):
        said["gen_ai.tool.call.result"] = _text(call.raw_output)
    elif isinstance(call.content, Raw):
        said["gen_ai.tool.call.result"] = _text(call.content)
    return said


def _text(json: Raw) -> str:
    return bytes(memoryview(json)[:CONTENT_CHARACTERS]).decode(errors="replace")
