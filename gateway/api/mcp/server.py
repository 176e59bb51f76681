"""The shop as an MCP server, built with the official SDK; imported only when the first request comes.

Importing the SDK takes a third of a second and 34 MB, which a gateway that serves no MCP client never pays.
Both protocol eras, answers in plain JSON, no state between requests.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, BinaryIO, Final, cast

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from gateway.api.mcp.conversation import MAX_ID, MalformedConversation, Named, Origin, caller_of
from gateway.apps.shop.tools import (
    BY_NAME,
    CART_WIDGET,
    PRODUCTS_WIDGET,
    TOOLS,
    Answer,
    ShopTools,
    Tool,
    bad_id,
)
from gateway.apps.shop.words import words_for
from gateway.events.facts import in_one_line
from gateway.version import VERSION

logging.getLogger("mcp").setLevel(logging.WARNING)

NAME: Final = "agent-gateway-shop"
_STDOUT, _STDERR = 1, 2
WIDGET_TYPE: Final = "text/html+skybridge"
WIDGETS: Final = pathlib.Path(__file__).parent.parent.parent / "apps" / "shop" / "widgets"
INSTRUCTIONS: Final = (
    "A shop with one cart for each conversation. Search products, then add them by their id. Where a result "
    "names a _sessionId, send it with every further call to go on with the same cart."
)

_WIDGET_WORDS: Final = {
    PRODUCTS_WIDGET: ("Products", "A grid of products that can be put into the cart.", "products.html"),
    CART_WIDGET: ("Cart", "The cart of this conversation.", "cart.html"),
}

Said = Callable[[HTTPConnection | None], Origin]
"""What is known of a request besides its message; over stdio there is no request."""


def build(tools: ShopTools, said: Said) -> Server[Any]:
    """The server over these tools."""
    announced = types.ListToolsResult(tools=[_announced(tool) for tool in TOOLS])
    schemas = {tool.name: tool.schema for tool in TOOLS}
    resources = types.ListResourcesResult(resources=[_resource(uri) for uri in _WIDGET_WORDS])

    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        return announced

    async def call_tool(
        context: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name not in BY_NAME:
            raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown tool: {params.name}")
        return _result(await _call(tools, said, context, params), BY_NAME[params.name])

    async def list_resources(_context: Any, _params: Any) -> types.ListResourcesResult:
        return resources

    async def list_templates(_context: Any, _params: Any) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=[])

    async def read_resource(
        _context: Any, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        return _read(str(params.uri))

    return Server(
        NAME,
        version=VERSION,
        title="Agent Gateway shop",
        instructions=INSTRUCTIONS,
        get_tool_input_schema=schemas.get,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )


async def _call(
    tools: ShopTools,
    said: Said,
    context: ServerRequestContext[Any, Any],
    params: types.CallToolRequestParams,
) -> Answer:
    arguments = params.arguments or {}
    meta = (context.params or {}).get("_meta") or {}
    try:
        caller = caller_of(Named(meta=meta, arguments=arguments, origin=said(context.request)))
    except MalformedConversation as error:
        return bad_id(words_for(arguments.get("locale")), source=error.source, most=MAX_ID)
    return await tools.call(params.name, arguments, caller)


def _result(answer: Answer, tool: Tool) -> types.CallToolResult:
    meta: dict[str, Any] = {}
    if answer.fresh_id is not None:
        meta["_sessionId"] = answer.fresh_id
    if answer.pictures:
        meta["pictures"] = answer.pictures
    if tool.widget is not None and not answer.is_error:
        meta["openai/outputTemplate"] = tool.widget
    return types.CallToolResult(
        content=[types.TextContent(text=answer.text)],
        structured_content=answer.structured,
        is_error=answer.is_error,
        _meta=meta or None,
    )


def _announced(tool: Tool) -> types.Tool:
    meta: dict[str, Any] = {"openai/widgetAccessible": True}
    if tool.widget is not None:
        meta |= {"openai/outputTemplate": tool.widget, "openai/resultCanProduceWidget": True}
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.schema,
        annotations=types.ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.is_read_only,
            destructive_hint=tool.is_destructive,
            idempotent_hint=tool.is_idempotent,
            open_world_hint=False,
        ),
        _meta=meta,
    )


def _resource(uri: str) -> types.Resource:
    title, description, _ = _WIDGET_WORDS[uri]
    return types.Resource(
        name=title,
        title=title,
        description=description,
        uri=uri,
        mime_type=WIDGET_TYPE,
        _meta=_widget_meta(description),
    )


def _widget_meta(description: str) -> dict[str, Any]:
    return {
        "openai/widgetDescription": description,
        "openai/widgetPrefersBorder": True,
        "openai/widgetCSP": {"connect_domains": [], "resource_domains": []},
    }


def _read(uri: str) -> types.ReadResourceResult:
    if uri not in _WIDGET_WORDS:
        raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown resource: {uri}", data={"uri": uri})
    _, description, name = _WIDGET_WORDS[uri]
    contents = types.TextResourceContents(
        uri=uri,
        mime_type=WIDGET_TYPE,
        text=(WIDGETS / name).read_text("utf-8"),
        _meta=_widget_meta(description),
    )
    return types.ReadResourceResult(contents=[contents])


@asynccontextmanager
async def serving(
    tools: ShopTools, said: Said, *, body_limit_bytes: int
) -> AsyncIterator[Callable[[Scope, Receive, Send], Any]]:
    """The server over streamable HTTP, as an ASGI application."""
    manager = StreamableHTTPSessionManager(
        build(tools, said), json_response=True, stateless=True, max_request_body_size=body_limit_bytes
    )
    async with manager.run():
        yield manager.handle_request


async def serve_stdio(tools: ShopTools, said: Said) -> None:
    """The server over this process's stdin and stdout, until they end."""
    server = build(tools, said)
    with _stdout() as stdout:
        async with stdio_server(stdout=cast("Any", stdout)) as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())


class _Lines:
    """Messages of JSON, a line each, whatever counts as a line's end to their reader."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    async def write(self, message: str) -> None:
        """Takes a message with its newline."""
        await asyncio.to_thread(self._file.write, in_one_line(message.encode()))

    async def flush(self) -> None:
        """Sends what was taken; the reader may take its time."""
        await asyncio.to_thread(self._file.flush)


@contextmanager
def _stdout() -> Iterator[_Lines]:
    """This process's stdout, for messages alone: what anything else prints goes to stderr meanwhile."""
    sys.stdout.flush()
    kept = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    try:
        with open(kept, "wb", closefd=False) as file:
            yield _Lines(file)
    finally:
        os.dup2(kept, _STDOUT)
        os.close(kept)
