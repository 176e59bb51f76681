"""The toolsets of the applications as one MCP server, built with the official SDK; imported only when the
first request comes.

Importing the SDK takes a third of a second and 34 MB, which a gateway that serves no MCP client never pays.
Both protocol eras, answers in plain JSON, no state between requests.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
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

from gateway.agents.toolsets import Answer, Caller, Tool, Toolset, Widget
from gateway.api.mcp.conversation import MAX_ID, CallOrigin, MalformedConversation, Named, caller_of
from gateway.events.facts import in_one_line
from gateway.version import VERSION

logging.getLogger("mcp").setLevel(logging.WARNING)

NAME: Final = "agent-gateway"
TITLE: Final = "Agent Gateway"
_STDOUT, _STDERR = 1, 2
WIDGET_TYPE: Final = "text/html+skybridge"

OriginOf = Callable[[HTTPConnection | None], CallOrigin]
"""What is known of a request besides its message; over stdio there is no request."""


class _Tools:
    """The tools of all toolsets by name. A session's agent sees those alone that its pass opens."""

    def __init__(self, toolsets: Sequence[Toolset]) -> None:
        self.toolsets = toolsets
        self._all = {tool.name: (tool, toolset) for toolset in toolsets for tool in toolset.describe()}
        self._announced = {name: _announced(tool) for name, (tool, _) in self._all.items()}
        self.schemas = {name: tool.schema for name, (tool, _) in self._all.items()}
        self.widgets = {uri: widget for toolset in toolsets for uri, widget in toolset.widgets.items()}

    def announced(self, origin: CallOrigin) -> list[types.Tool]:
        """The tools that the caller may see."""
        return [said for name, said in self._announced.items() if self._is_open(name, origin)]

    def find(self, name: str, origin: CallOrigin) -> tuple[Tool, Toolset]:
        """The tool of this name, and whose it is. Raises MCPError."""
        if name not in self._all or not self._is_open(name, origin):
            raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown tool: {name}")
        return self._all[name]

    def _is_open(self, name: str, origin: CallOrigin) -> bool:
        granted = origin.granted
        return granted is None or self._all[name][1].name in granted.toolsets


def build(toolsets: Sequence[Toolset], said: OriginOf) -> Server[Any]:
    """The server over these toolsets. With one alone it is called after it."""
    tools = _Tools(toolsets)
    resources = types.ListResourcesResult(
        resources=[_resource(uri, widget) for uri, widget in tools.widgets.items()]
    )
    only = toolsets[0].name if len(toolsets) == 1 else ""

    async def list_tools(context: ServerRequestContext[Any, Any], _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools.announced(said(context.request)))

    async def call_tool(
        context: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        origin = said(context.request)
        tool, toolset = tools.find(params.name, origin)
        return _result(await _call(toolset, origin, context, params), tool)

    async def list_resources(_context: Any, _params: Any) -> types.ListResourcesResult:
        return resources

    async def list_templates(_context: Any, _params: Any) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=[])

    async def read_resource(
        _context: Any, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        return _read(str(params.uri), tools.widgets)

    return Server(
        f"{NAME}-{only}" if only else NAME,
        version=VERSION,
        title=f"{TITLE} {only}" if only else TITLE,
        instructions="\n\n".join(toolset.instructions for toolset in toolsets if toolset.instructions)
        or None,
        get_tool_input_schema=tools.schemas.get,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )


async def _call(
    toolset: Toolset,
    origin: CallOrigin,
    context: ServerRequestContext[Any, Any],
    params: types.CallToolRequestParams,
) -> Answer:
    arguments = params.arguments or {}
    meta = (context.params or {}).get("_meta") or {}
    try:
        caller: Caller = caller_of(Named(meta=meta, arguments=arguments, origin=origin))
    except MalformedConversation as error:
        return toolset.refused_id(error.source, most=MAX_ID, arguments=arguments)
    return await toolset.call(params.name, arguments, caller)


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


def _resource(uri: str, widget: Widget) -> types.Resource:
    return types.Resource(
        name=widget.title,
        title=widget.title,
        description=widget.description,
        uri=uri,
        mime_type=WIDGET_TYPE,
        _meta=_widget_meta(widget.description),
    )


def _widget_meta(description: str) -> dict[str, Any]:
    return {
        "openai/widgetDescription": description,
        "openai/widgetPrefersBorder": True,
        "openai/widgetCSP": {"connect_domains": [], "resource_domains": []},
    }


def _read(uri: str, widgets: Mapping[str, Widget]) -> types.ReadResourceResult:
    if uri not in widgets:
        raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown resource: {uri}", data={"uri": uri})
    contents = types.TextResourceContents(
        uri=uri,
        mime_type=WIDGET_TYPE,
        text=widgets[uri].path.read_text("utf-8"),
        _meta=_widget_meta(widgets[uri].description),
    )
    return types.ReadResourceResult(contents=[contents])


@asynccontextmanager
async def serving(
    toolsets: Sequence[Toolset], said: OriginOf, *, body_limit_bytes: int
) -> AsyncIterator[Callable[[Scope, Receive, Send], Any]]:
    """The server over streamable HTTP, as an ASGI application."""
    manager = StreamableHTTPSessionManager(
        build(toolsets, said), json_response=True, stateless=True, max_request_body_size=body_limit_bytes
    )
    async with manager.run():
        yield manager.handle_request


async def serve_stdio(toolsets: Sequence[Toolset], said: OriginOf) -> None:
    """The server over this process's stdin and stdout, until they end."""
    server = build(toolsets, said)
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
