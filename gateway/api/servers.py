"""MCP servers of a session: the operations of `mcp-command` besides `set_network`.

The *worker* is the MCP client, behind its walls; the gateway only asks it, by the extension method
`_mcp/request`, which other agents do not know. Callers name http(s) URLs only. Because somebody else names
them, addresses that are not public are refused, by the gateway where they are written out and by the worker
where a name resolves to them; only the person at the machine (`open` mode) may name their own.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from gateway.agent import AgentError, AgentGone, WireError
from gateway.answers import CommandAnswer
from gateway.session import Session
from gateway.session_core import McpServer
from worker.acp import METHOD_NOT_FOUND

MAX_SERVERS: Final = 16
URL_CHARACTERS: Final = 2_048
ASK_SECONDS: Final = 15.0
"""How long a server may take, before the worker gives up."""
GRACE_SECONDS: Final = 10.0
METHOD: Final = "_mcp/request"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LOCAL_NAMES: Final = ("localhost", ".localhost", ".local", ".internal")


class Operation(Struct, frozen=True):
    """A command that asks a server: MCP's method, the arguments that it needs, where the list is."""

    method: str
    needed: tuple[str, ...] = ()
    listed: str = ""


OPERATIONS: Final = {
    "list_tools": Operation("tools/list", listed="tools"),
    "call_tool": Operation("tools/call", ("name",)),
    "list_resources": Operation("resources/list", listed="resources"),
    "read_resource": Operation("resources/read", ("uri",)),
    "list_prompts": Operation("prompts/list", listed="prompts"),
    "get_prompt": Operation("prompts/get", ("name",)),
}
COMMANDS: Final = ("list_servers", "add_server", "remove_server", *OPERATIONS)


class _Answered(Struct):
    result: Any = None


class _Refused(Exception):
    """The command cannot be done; the text says why."""


def needs_session(command: str) -> bool:
    """Whether a command makes the session that it names."""
    return command == "add_server"


async def run(session: Session | None, command: str, args: Any, *, is_local: bool) -> CommandAnswer:
    """Does one of COMMANDS; what cannot be done is an answer too."""
    named = args if isinstance(args, dict) else {}
    servers = session.mcp_servers if session is not None else {}
    try:
        match command:
            case "list_servers":
                return _list(servers)
            case "add_server":
                return _add(servers, named, is_local=is_local)
            case "remove_server":
                return _remove(servers, named)
        if session is None:
            raise _Refused("No MCP servers are connected: add one with add_server.")
        return await _ask(session, command, named)
    except _Refused as refused:
        return CommandAnswer(False, str(refused))


def _list(servers: dict[str, McpServer]) -> CommandAnswer:
    listed = [{"name": server.name, "url": server.url} for server in servers.values()]
    words = f"{len(listed)} MCP servers are connected." if listed else "No MCP servers are connected."
    return CommandAnswer(True, words, {"servers": listed})


def _add(servers: dict[str, McpServer], args: dict[str, Any], *, is_local: bool) -> CommandAnswer:
    name, url = args.get("name"), args.get("url")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(url, str):
        raise _Refused(
            'add_server wants args {"name": NAME, "url": "https://…"}; a name is letters and digits.'
        )
    _check(url, is_local=is_local)
    if name not in servers and len(servers) >= MAX_SERVERS:
        raise _Refused(f"A session has at most {MAX_SERVERS} MCP servers.")
    servers[name] = McpServer(name, url, is_local)
    return CommandAnswer(True, f"MCP server {name} was added.", {"name": name, "url": url})


def _check(url: str, *, is_local: bool) -> None:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
        _ = parts.port
    except ValueError:
        raise _Refused("This is no URL.") from None
    if (
        parts.scheme not in ("http", "https")
        or not host
        or len(url) > URL_CHARACTERS
        or not url.isprintable()
    ):
        raise _Refused(
            "An MCP server's URL begins with http:// or https://; programs come from the configuration."
        )
    if parts.username is not None or " " in url:
        raise _Refused("A URL must not hold credentials or spaces.")
    if not is_local and (_is_private(host) or host.endswith(_LOCAL_NAMES) or host in _LOCAL_NAMES):
        raise _Refused(f"{host} is not a public address, so it cannot be added.")


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


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


async def _ask(session: Session, command: str, args: dict[str, Any]) -> CommandAnswer:
    operation = OPERATIONS[command]
    server = _chosen(session.mcp_servers, args.get("server"))
    for name in operation.needed:
        if not isinstance(args.get(name), str):
            raise _Refused(f"{command} wants args with a text {name!r}.")
    params: dict[str, Any] = {name: args[name] for name in operation.needed}
    if command in ("call_tool", "get_prompt"):
        params["arguments"] = args.get("arguments") if isinstance(args.get("arguments"), dict) else {}
    asked = {
        "url": server.url,
        "method": operation.method,
        "params": params,
        "mayReachPrivate": server.may_be_private,
        "seconds": ASK_SECONDS,
    }
    try:
        raw = await session.ask_agent(METHOD, asked, seconds=ASK_SECONDS + GRACE_SECONDS)
        result = msgspec.json.decode(raw, type=_Answered).result
    except AgentError as error:
        if error.error.code == METHOD_NOT_FOUND:
            raise _Refused("This session's agent has no MCP client that can be asked.") from None
        raise _Refused(str(error)) from None
    except (AgentGone, WireError, msgspec.MsgspecError) as error:
        raise _Refused(f"The agent could not be asked: {error}") from None
    except TimeoutError:
        raise _Refused("The MCP server took too long.") from None
    return _said(command, operation, result)


def _said(command: str, operation: Operation, result: Any) -> CommandAnswer:
    fields = result if isinstance(result, dict) else {}
    if operation.listed:
        count = len(fields.get(operation.listed) or ())
        return CommandAnswer(True, f"{count} {operation.listed}.", result)
    if fields.get("isError") is True:
        return CommandAnswer(False, "The tool failed.", result)
    return CommandAnswer(True, f"{command} succeeded.", result)
