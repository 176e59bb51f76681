"""The gateway's own tools for a session's agent: what is offered, and what a call comes to.

The built-in agent asks over its ACP pipe (`_tools/list`, `_tools/call`); other agents get the gateway's MCP
server with a pass. Both act for one session, which neither a name, an argument nor a worker's word can
change: the cart's key is the session's own, looked up when a tool is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from gateway.apps.shop.store import ShopKey
from gateway.apps.shop.tools import BY_NAME, TOOLS, Caller, ShopTools, Tool
from gateway.principal import tenant_of
from gateway.stores.contract import SessionRecord

SHOP: Final = "shop"
SOURCE: Final = "session"
HIDDEN: Final = ("_sessionId",)
"""Arguments that say whose cart is meant: here that is never a question."""


class CallTool(Struct, rename="camel"):
    """`_tools/call`. Whatever else a worker sends beside is not looked at."""

    name: str
    arguments: dict[str, Any] = {}


class UnknownTool(Exception):
    """The session has no such tool; the text names those that it has."""


class Toolbox:
    """The tools of one session."""

    def __init__(
        self, shop: ShopTools, *, sets: tuple[str, ...], record: Callable[[], SessionRecord]
    ) -> None:
        self._shop = shop
        self._tools = TOOLS if SHOP in sets else ()
        self._record = record

    def __bool__(self) -> bool:
        return bool(self._tools)

    def key(self) -> ShopKey:
        """The session's own cart."""
        record = self._record()
        return ShopKey(tenant_of(record.owner), record.owner, record.session_id)

    def described(self) -> list[dict[str, Any]]:
        """The tools as the agent is told of them."""
        return [_described(tool) for tool in self._tools]

    async def call(self, request: CallTool) -> dict[str, Any]:
        """Runs a tool; a refusal is a result too, with `isError`. Raises UnknownTool."""
        tool = BY_NAME.get(request.name)
        if tool is None or tool not in self._tools:
            names = ", ".join(tool.name for tool in self._tools) or "none"
            raise UnknownTool(f"There is no tool {request.name!r}. Tools: {names}.")
        caller = Caller(key=self.key(), source=SOURCE, is_agent=True)
        answer = await self._shop.call(tool.name, _own(request.arguments), caller)
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
