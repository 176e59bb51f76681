"""One turn: prompt → model → tools → model → … → answer.

Guarantees: at most `ROUNDS` calls of the model; every tool call that was shown is shown ended, also when the
turn is cancelled in its middle; after a turn that was cut the history holds what the user saw, so that the
next prompt goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from worker.agent.conversation import META_KEY, History, Image, ModelMessage, content_of
from worker.agent.loop import Cancelled, Io, RequestFailed
from worker.agent.model import Delta, EndpointRequest, Finish, Model, TokenUsage
from worker.agent.remote import RemoteTool, RemoteTools
from worker.agent.tools import (
    TOOLS,
    Arguments,
    BuiltInTool,
    ToolRefused,
    old_text,
    printable,
    resolve,
    text_argument,
)
from worker.agent.updates import Updates, diff_content, new_call_id, text_content
from worker.foreign import clamped

ROUNDS: Final = 20
"""A model that calls tools more often than this goes in circles."""

_STOP_REASONS: Final = {"length": "max_tokens", "content_filter": "refusal"}


@dataclass
class BuiltInSession:
    """One conversation of the agent; files are reached under `cwd` only."""

    id: str
    cwd: str
    history: History = field(default_factory=History)
    always: dict[str, bool] = field(default_factory=dict)
    """Tools that the user allowed (True) or rejected (False) for good."""


@dataclass
class ToolRequest:
    """A tool call put together from fragments."""

    id: str = ""
    name: str = ""
    arguments: str = ""

    def message_part(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": self.arguments or "{}"}
        return {"id": self.id, "type": "function", "function": function}


class ModelReply:
    """What the model said in one round, shown as it comes."""

    def __init__(self, updates: Updates) -> None:
        self._updates = updates
        self._parts: list[str] = []
        self._calls: dict[int, ToolRequest] = {}

    def take(self, delta: Delta) -> None:
        if delta.thought:
            self._updates.think(delta.thought)
        if delta.text:
            self._parts.append(delta.text)
            self._updates.say(delta.text)
        for fragment in delta.tool_calls or ():
            call = self._calls.setdefault(fragment.index, ToolRequest())
            call.id = call.id or fragment.id or ""
            call.name = call.name or fragment.name or ""
            call.arguments += fragment.arguments or ""

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def tool_requests(self) -> list[ToolRequest]:
        requests = [self._calls[index] for index in sorted(self._calls)]
        for request in requests:
            request.id = request.id or new_call_id()
        return requests


class BuiltInTurn:
    """One prompt of a session on its way to an answer."""

    def __init__(
        self, io: Io, session: BuiltInSession, model: Model, remote: RemoteTools | None = None
    ) -> None:
        self.remote = remote or RemoteTools(io)
        self.io = io
        self.session = session
        self.model = model
        self.updates = Updates(io, session.id)
        self._used: TokenUsage | None = None

    async def answer(self, text: str, *, context: str = "", images: tuple[Image, ...] = ()) -> str:
        """Lets the model answer, told of a `context` that only this turn knows; returns the stop reason.
        Raises RequestFailed and Cancelled.
        """
        question: ModelMessage = {"role": "user", "content": content_of(text, images)}
        self.session.history.add(question)
        replies: list[ModelReply] = []
        try:
            return await self._rounds(replies, context)
        except Cancelled:
            self.session.history.settle(question, "".join(reply.text for reply in replies))
            raise
        except RequestFailed:
            shown = "".join(reply.text for reply in replies)
            self.session.history.settle(question, shown, keep_question=False)
            raise

    def result(self, stop_reason: str) -> dict[str, Any]:
        """The result of `session/prompt`; `_meta` tells the tokens where the model did."""
        result: dict[str, Any] = {"stopReason": stop_reason}
        if self._used is not None:
            result["_meta"] = {META_KEY: {"usage": self._used}}
        return result

    def _tell_what_was_forgotten(self) -> None:
        """Says how many messages no longer fit what the model reads at once."""
        history = self.session.history
        if history.forgotten:
            params = {"sessionId": self.session.id, "messages": history.forgotten}
            self.io.notify("_session/forgot", params)
            history.forgotten = 0

    async def _rounds(self, replies: list[ModelReply], context: str) -> str:
        history = self.session.history
        tools = [tool.schema() for tool in TOOLS.values()] if self.model.understands_language else []
        tools += [tool.schema() for tool in (await self.remote.all()).values()]
        for _ in range(ROUNDS):
            reply = ModelReply(self.updates)
            replies.append(reply)
            self._tell_what_was_forgotten()
            messages = [_instructions(self.session.cwd, context), *history.messages]
            finish = await self.model.stream(EndpointRequest(self.session.id, messages, tools), reply.take)
            self._count(finish)
            requests = reply.tool_requests()
            if not requests:
                if reply.text:
                    history.add({"role": "assistant", "content": reply.text})
                return _STOP_REASONS.get(finish.finish_reason or "", "end_turn")
            history.add(*await self._call_tools(reply.text, requests))
        return "max_turn_requests"

    async def _call_tools(self, text: str, requests: list[ToolRequest]) -> list[ModelMessage]:
        called: ModelMessage = {"role": "assistant", "content": text or None}
        called["tool_calls"] = [request.message_part() for request in requests]
        messages = [called]
        for request in requests:
            output = await self.run_tool(request.name, _read_arguments(request.arguments))
            messages.append({"role": "tool", "tool_call_id": request.id, "content": output})
        return messages

    async def run_tool(self, name: str, arguments: Arguments | str) -> str:
        """Runs a tool in the user's sight and returns its output, or why there is none.

        `arguments` as text are arguments that could not be read: the call is shown and fails.
        """
        remote = (await self.remote.all()).get(name)
        tool, call_id = TOOLS.get(name), new_call_id()
        shown = self._describe(tool or remote, name, arguments) | {"toolCallId": call_id}
        self.updates.send("tool_call", status="in_progress", rawInput=arguments, **shown)
        content: list[dict[str, Any]] = []
        try:
            if isinstance(arguments, str):
                raise ToolRefused("The arguments are not a JSON object.")
            if tool is not None and tool.asks:
                content = [self._change(arguments)]
                await self._permit(tool, shown | {"rawInput": arguments, "content": content})
            await self.io.sleep(0)
            status, output = "completed", await self._run(tool or remote, name, arguments)
        except ToolRefused as refusal:
            status, output = "failed", str(refusal)
        except Cancelled:
            self._end_tool(call_id, "failed", "Cancelled by the user.", content)
            raise
        self._end_tool(call_id, status, output, content)
        return output

    async def _run(self, tool: BuiltInTool | RemoteTool | None, name: str, arguments: Arguments) -> str:
        match tool:
            case BuiltInTool():
                return tool.run(self.session.cwd, arguments)
            case RemoteTool():
                return await self.remote.call(name, arguments)
        known = ", ".join((*TOOLS, *await self.remote.all()))
        raise ToolRefused(f"There is no tool {name}. Tools: {known}.")

    def _end_tool(self, call_id: str, status: str, output: str, content: list[dict[str, Any]]) -> None:
        self.updates.send(
            "tool_call_update",
            toolCallId=call_id,
            status=status,
            content=[*content, text_content(output)],
            rawOutput=output,
        )

    def _describe(
        self, tool: BuiltInTool | RemoteTool | None, name: str, arguments: Arguments | str
    ) -> dict[str, Any]:
        if tool is None or isinstance(arguments, str):
            return {"title": name or "Unnamed tool", "kind": "other"}
        if isinstance(tool, RemoteTool):
            return {"title": tool.titled(arguments), "kind": tool.kind}
        shown: dict[str, Any] = {"title": tool.title(arguments)[:200], "kind": tool.kind}
        try:
            path = resolve(self.session.cwd, text_argument(arguments, "path"))
            shown["locations"] = [{"path": printable(path)}]
        except ToolRefused:
            return shown
        return shown

    def _change(self, arguments: Arguments) -> dict[str, Any]:
        path = text_argument(arguments, "path")
        new = text_argument(arguments, "content")
        target = resolve(self.session.cwd, path)
        return diff_content(printable(target), old_text(self.session.cwd, path), new)

    async def _permit(self, tool: BuiltInTool, tool_call: dict[str, Any]) -> None:
        """Returns when the user allows the call; raises ToolRefused or Cancelled."""
        allowed = self.session.always.get(tool.name)
        if allowed is None:
            try:
                choice = await self.updates.ask(tool_call)
            except RequestFailed as error:
                raise ToolRefused(f"Permission could not be asked: {error.message}") from None
            if choice == "cancelled":
                raise Cancelled
            allowed = choice.startswith("allow")
            if choice.endswith("always"):
                self.session.always[tool.name] = allowed
        if not allowed:
            raise ToolRefused("The user did not allow it.")

    def _count(self, finish: Finish) -> None:
        usage = finish.usage
        if usage is None:
            return
        before = self._used or TokenUsage()
        self._used = TokenUsage(
            clamped(before.input_tokens + usage.input_tokens),
            clamped(before.output_tokens + usage.output_tokens),
        )
        used = clamped(usage.input_tokens + usage.output_tokens)
        if used and self.model.context_tokens is not None:
            self.updates.send("usage_update", used=used, size=self.model.context_tokens)


def _instructions(cwd: str, context: str) -> ModelMessage:
    return {
        "role": "system",
        "content": (
            "You are the built-in assistant of Agent Gateway. Answer in the user's language, in Markdown. "
            f"Your tools reach files only inside {cwd}. What the user refuses stays refused."
            + (f"\n\n{context}" if context else "")
        ),
    }


def _read_arguments(text: str) -> Arguments | str:
    try:
        arguments: Arguments = msgspec.json.decode((text or "{}").encode(), type=Arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return text
    return arguments
