"""Toolsets: tools that applications offer, to MCP clients and to a session's own agent alike.

The built-in agent asks over its ACP pipe (`_tools/list`, `_tools/call`); other agents get the gateway's MCP
server with a pass. Both act for one session, which neither a name, an argument nor a worker's word can
change: the session's own key is looked up when a tool is called.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct, field

from gateway.config.file import ConfigError
from gateway.principal import ConversationKey, tenant_of
from gateway.stores.contract import SessionRecord

SOURCE: Final = "session"
HIDDEN: Final = ("_sessionId",)
"""Arguments that say which conversation is meant: for a session's own agent that is never a question."""


class Caller(Struct, frozen=True, kw_only=True):
    """On whose behalf a tool is called."""

    key: ConversationKey
    source: str = ""
    """Where the conversation's id was found."""
    is_agent: bool = False
    """It is a session's own agent."""
    is_fresh: bool = False
    """The caller sent no id: the conversation is new, and the answer contains its id."""
    is_private: bool = False
    """The caller asked not to be counted (Global Privacy Control)."""
    locale: str | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """What a tool says."""

    text: str
    structured: dict[str, Any] | None = None
    is_error: bool = False
    pictures: dict[str, str] = field(default_factory=dict)
    """`data:` addresses by what they show, for a widget alone: a model has no use for them."""
    fresh_id: str | None = None


class Tool(Struct, frozen=True, kw_only=True):
    """A tool as it is announced. `arguments` is the Struct of its arguments."""

    name: str
    title: str
    description: str
    arguments: type[Struct]
    is_read_only: bool
    is_destructive: bool = False
    is_idempotent: bool = False
    widget: str | None = None
    """The address of the widget that shows what it says."""

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of its arguments, with nothing to look up elsewhere."""
        _, components = msgspec.json.schema_components([self.arguments])
        schema: dict[str, Any] = components[self.arguments.__name__]
        properties = {name: _inlined(part) for name, part in schema["properties"].items()}
        return {"type": "object", "properties": properties, "required": schema.get("required", [])}


def _inlined(part: dict[str, Any]) -> dict[str, Any]:
    """`T or null` as T: an argument that is not sent is not there, and models fill in null."""
    variants = [variant for variant in part.get("anyOf", []) if variant.get("type") != "null"]
    return variants[0] if len(variants) == 1 else part


class Widget(Struct, frozen=True):
    """A page that an MCP client may show beside what a tool says."""

    title: str
    description: str
    path: pathlib.Path


class Toolset(Protocol):
    """Tools that belong together. A class that derives from this one has the defaults below."""

    name: str
    """What an agent's `tools` calls it."""
    instructions: str = ""
    """For models, about all of its tools."""
    widgets: Mapping[str, Widget] = {}
    """By the address that its tools name."""

    def describe(self) -> Sequence[Tool]:
        """Its tools, always the same."""

    async def call(self, name: str, arguments: Mapping[str, Any], caller: Caller) -> Answer:
        """Runs a tool of `describe`. A refusal is an answer too."""

    def refused_id(self, source: str, *, most: int, arguments: Mapping[str, Any]) -> Answer:
        """The answer to a conversation's id, found at `source`, that cannot be one."""
        return Answer(text=f"The id in {source} has 1 to {most} visible characters.", is_error=True)


class CallTool(Struct, rename="camel"):
    """`_tools/call`. Whatever else a worker sends beside is not looked at."""

    name: str
    arguments: dict[str, Any] = {}


class UnknownTool(Exception):
    """The session has no such tool; the text names those that it has."""


class Toolbox:
    """The tools of one session."""

    def __init__(
        self, toolsets: Mapping[str, Toolset], *, sets: tuple[str, ...], record: Callable[[], SessionRecord]
    ) -> None:
        """`sets` names those of the toolsets that the session gets."""
        self.sets = tuple(name for name in sets if name in toolsets)
        self._tools = {
            tool.name: (tool, toolsets[name]) for name in self.sets for tool in toolsets[name].describe()
        }
        self._record = record

    def __bool__(self) -> bool:
        return bool(self._tools)

    def key(self) -> ConversationKey:
        """The session itself, as it is called now."""
        record = self._record()
        return ConversationKey(tenant_of(record.owner), record.owner, record.session_id)

    def described(self) -> list[dict[str, Any]]:
        """The tools' descriptions for the agent."""
        return [_described(tool) for tool, _ in self._tools.values()]

    async def call(self, request: CallTool) -> dict[str, Any]:
        """Runs a tool; a refusal is a result too, with `isError`. Raises UnknownTool."""
        if request.name not in self._tools:
            names = ", ".join(self._tools) or "none"
            raise UnknownTool(f"There is no tool {request.name!r}. Tools: {names}.")
        tool, toolset = self._tools[request.name]
        caller = Caller(key=self.key(), source=SOURCE, is_agent=True)
        answer = await toolset.call(tool.name, _own(request.arguments), caller)
        return {"text": answer.text, "structured": answer.structured, "isError": answer.is_error}


def _own(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in HIDDEN}


def _described(tool: Tool) -> dict[str, Any]:
    schema = tool.schema
    properties = {name: part for name, part in schema["properties"].items() if name not in HIDDEN}
    return {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "kind": "search" if tool.is_read_only else "other",
        "parameters": {**schema, "properties": properties, "additionalProperties": False},
    }


def by_name(toolsets: Iterable[Toolset]) -> dict[str, Toolset]:
    """The toolsets of every application. Raises ConfigError if two have a tool of one name, by which a model
    calls it.
    """
    found: dict[str, Toolset] = {}
    tools: set[str] = set()
    for toolset in toolsets:
        names = {tool.name for tool in toolset.describe()}
        if toolset.name in found or names & tools:
            taken = ", ".join(sorted(names & tools)) or toolset.name
            raise ConfigError(
                [f"applications.enabled: two applications have tools of the same name: {taken}"]
            )
        found[toolset.name] = toolset
        tools |= names
    return found
