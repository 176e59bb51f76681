"""MCP servers of a session: the operations of `mcp-command` besides `set_network`.

The gateway asks the servers itself, on the session's behalf and whatever its agent is (`egress.mcp_client`):
an agent needs no network for them. Callers name http(s) URLs only, and because somebody else names them, only
public addresses are called, unless the configuration names the host.
"""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec import Struct

from gateway.answers import CommandAnswer
from gateway.egress.caller import CallFailed
from gateway.egress.mcp_client import McpClient
from gateway.sessions.session import McpServer, Session

MAX_SERVERS: Final = 16

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class McpMethod(Struct, frozen=True):
    """A command that asks a server: MCP's method, the arguments that it needs, where the list is."""

    method: str
    needed: tuple[str, ...] = ()
    listed: str = ""


OPERATIONS: Final = {
    "list_tools": McpMethod("tools/list", listed="tools"),
    "call_tool": McpMethod("tools/call", ("name",)),
    "list_resources": McpMethod("resources/list", listed="resources"),
    "read_resource": McpMethod("resources/read", ("uri",)),
    "list_prompts": McpMethod("prompts/list", listed="prompts"),
    "get_prompt": McpMethod("prompts/get", ("name",)),
}
COMMANDS: Final = ("list_servers", "add_server", "remove_server", *OPERATIONS)


class _Refused(Exception):
    """The command cannot be done; the text says why."""


def needs_session(command: str) -> bool:
    """Whether a command makes the session that it names."""
    return command == "add_server"


async def run(session: Session | None, command: str, args: Any, *, client: McpClient) -> CommandAnswer:
    """Does one of COMMANDS; what cannot be done is an answer too."""
    named = args if isinstance(args, dict) else {}
    servers = session.mcp_servers if session is not None else {}
    try:
        match command:
            case "list_servers":
                return _list(servers)
            case "add_server":
                return _add(servers, named, client)
            case "remove_server":
                return _remove(servers, named)
        if session is None:
            raise _Refused("No MCP servers are connected: add one with add_server.")
        return await _ask(session, command, named, client)
    except (_Refused, CallFailed) as refused:
        return CommandAnswer(False, str(refused))


def _list(servers: dict[str, McpServer]) -> CommandAnswer:
    listed = [{"name": server.name, "url": server.url} for server in servers.values()]
    words = f"{len(listed)} MCP servers are connected." if listed else "No MCP servers are connected."
    return CommandAnswer(True, words, {"servers": listed})


def _add(servers: dict[str, McpServer], args: dict[str, Any], client: McpClient) -> CommandAnswer:
    name, url = args.get("name"), args.get("url")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(url, str):
        raise _Refused(
            'add_server wants args {"name": NAME, "url": "https://…"}; a name is letters and digits.'
        )
    checked = client.check(url)
    if name not in servers and len(servers) >= MAX_SERVERS:
        raise _Refused(f"A session has at most {MAX_SERVERS} MCP servers.")
    servers[name] = McpServer(name, checked)
    return CommandAnswer(True, f"MCP server {name} was added.", {"name": name, "url": checked})


def _remove(servers: dict[str, McpServer], args: dict[str, Any]) -> CommandAnswer:
    server = _chosen(servers, args.get("name"))
    del servers[server.name]
    return CommandAnswer(True, f"MCP server {server.name} was removed.", {"name": server.name})


def _chosen(servers: dict[str, McpServer], name: Any) -> McpServer:
    """The server of this name, or the only one."""
    if name is None and len(servers) == 1:
        return next(iter(servers.values()))
    server = servers.get(name) if isinstance(name, str) else None
    if server is None:
        known = ", ".join(servers) or "none; add one with add_server"
        raise _Refused(f"There is no such MCP server. There are: {known}.")
    return server


async def _ask(session: Session, command: str, args: dict[str, Any], client: McpClient) -> CommandAnswer:
    operation = OPERATIONS[command]
    server = _chosen(session.mcp_servers, args.get("server"))
    for name in operation.needed:
        if not isinstance(args.get(name), str):
            raise _Refused(f"{command} wants args with a text {name!r}.")
    params: dict[str, Any] = {name: args[name] for name in operation.needed}
    if command in ("call_tool", "get_prompt"):
        params["arguments"] = args.get("arguments") if isinstance(args.get("arguments"), dict) else {}
    session.touch()
    record = session.record
    result = await client.ask(server.url, operation.method, params, session=record.key, owner=record.owner)
    return _said(command, operation, result)


def _said(command: str, operation: McpMethod, result: Any) -> CommandAnswer:
    fields = result if isinstance(result, dict) else {}
    if operation.listed:
        listed = fields.get(operation.listed)
        return CommandAnswer(
            True, f"{len(listed) if isinstance(listed, list) else 0} {operation.listed}.", result
        )
    if fields.get("isError") is True:
        return CommandAnswer(False, "The tool failed.", result)
    return CommandAnswer(True, f"{command} succeeded.", result)
