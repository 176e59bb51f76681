"""Tools that the client itself offers, asked for over the ACP pipe: `_tools/list`, `_tools/call`.

Guarantees: the list is asked for once; whose things a tool touches is the client's to know, nothing here can
say it; a failed call is a `ToolRefused` in plain words.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from worker.agent.loop import Io, RequestFailed
from worker.agent.tools import Arguments, ToolRefused

TITLE_CHARACTERS: Final = 60


class RemoteTool(msgspec.Struct, frozen=True):
    """One tool as the client describes it; `parameters` is a JSON schema."""

    name: str
    description: str = ""
    title: str = ""
    kind: str = "other"
    parameters: dict[str, Any] = {}

    def schema(self) -> dict[str, Any]:
        """The tool as OpenAI's chat completions take it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    def titled(self, arguments: Arguments) -> str:
        """What the user sees: the tool, and what it is about."""
        about = next((str(value) for value in arguments.values() if isinstance(value, str) and value), "")
        title = self.title or self.name
        return f"{title}: {about[:TITLE_CHARACTERS]}" if about else title


class _Listed(msgspec.Struct, frozen=True):
    tools: tuple[RemoteTool, ...] = ()


class _Result(msgspec.Struct, frozen=True, rename="camel"):
    text: str
    structured: Any = None
    is_error: bool = False


class RemoteTools:
    """The client's tools; none if it announced none."""

    def __init__(self, io: Io, *, is_offered: bool = False) -> None:
        self._io = io
        self._known: dict[str, RemoteTool] | None = None if is_offered else {}

    async def all(self) -> dict[str, RemoteTool]:
        """The tools by name. If the list is not available, there are none, and the next turn asks again."""
        if self._known is None:
            try:
                listed = await self._io.call("_tools/list", {}, _Listed)
            except RequestFailed:
                return {}
            self._known = {tool.name: tool for tool in listed.tools}
        return self._known

    async def call(self, name: str, arguments: Arguments) -> str:
        """What the tool says. Raises ToolRefused with its words."""
        params = {"name": name, "arguments": arguments}
        try:
            result = await self._io.call("_tools/call", params, _Result)
        except RequestFailed as error:
            raise ToolRefused(error.message) from None
        if result.is_error:
            raise ToolRefused(result.text)
        return result.text
