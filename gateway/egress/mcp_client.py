"""An MCP client over streamable HTTP, for one request at a time: initialize, ask, leave.

Guarantees: every failure is a `CallFailed` in words; a server that never ends its stream holds up no caller,
for the stream is left when the answer has come; what a server asks of us is not answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.egress.caller import CallFailed, CallRefused, Calls, HttpAnswer, HttpCaller
from gateway.egress.mcp_wire import EventStream, Reply, Unreadable, reply
from gateway.version import VERSION
from worker import foreign
from worker.foreign import OnOdd

if TYPE_CHECKING:
    import yarl

PROTOCOL_VERSION: Final = "2025-06-18"
LEAVE_SECONDS: Final = 1.0
"""How long the end of a server's session may take; nothing depends on it."""
_CLIENT: Final = {"name": "agent-gateway", "version": VERSION}
_PLAIN_VERSION: Final = re.compile(r"[0-9A-Za-z.-]{1,32}")
_SESSION_ID: Final = re.compile(r"[\x21-\x7e]{1,1024}")
_WANTS_CREDENTIALS: Final = (401, 403)


class McpClient:
    """Asks MCP servers on behalf of sessions. `on_outcome` hears how each call ended."""

    def __init__(
        self,
        caller: HttpCaller,
        on_outcome: Callable[[str], None] = lambda _outcome: None,
        on_odd: OnOdd = foreign.ignored,
    ) -> None:
        self._caller = caller
        self._on_outcome = on_outcome
        self._on_odd = on_odd

    def check(self, url: str) -> str:
        """The URL as it would be called. Raises CallRefused."""
        return str(self._caller.check(url))

    async def ask(self, url: str, method: str, params: dict[str, Any], *, session: str, owner: str) -> Any:
        """The result of one request, on behalf of a session. Raises CallFailed."""
        try:
            target = self._caller.check(url)
            async with self._caller.calls(session=session, owner=owner) as calls:
                result = await _asked(_Server(calls, target, self._on_odd), method, params)
        except CallRefused:
            self._on_outcome("refused")
            raise
        except CallFailed:
            self._on_outcome("failed")
            raise
        self._on_outcome("answered")
        return result


async def _asked(server: _Server, method: str, params: dict[str, Any]) -> Any:
    try:
        await server.initialize()
        result = await server.call(2, method, params)
    except CallFailed:
        await server.leave()
        raise
    await server.leave()
    return result


class _Server:
    """One server for the time of a request."""

    def __init__(self, calls: Calls, url: yarl.URL, on_odd: OnOdd) -> None:
        self._calls = calls
        self._url = url
        self._on_odd = on_odd
        self._session: str | None = None
        self._version = PROTOCOL_VERSION

    async def initialize(self) -> None:
        """Opens a session with the server. Raises CallFailed."""
        hello = {"protocolVersion": PROTOCOL_VERSION, "capabilities": {}, "clientInfo": _CLIENT}
        result = await self.call(1, "initialize", hello)
        version = result.get("protocolVersion") if isinstance(result, dict) else None
        if isinstance(version, str) and _PLAIN_VERSION.fullmatch(version):
            self._version = version
        else:
            self._on_odd("protocolVersion")
        async with self._post({"jsonrpc": "2.0", "method": "notifications/initialized"}):
            pass

    async def call(self, request_id: int, method: str, params: dict[str, Any]) -> Any:
        """The result of a request. Raises CallFailed."""
        message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        async with self._post(message) as answer:
            if answer.status in _WANTS_CREDENTIALS:
                raise CallFailed(
                    f"The MCP server wants credentials ({answer.status}), which cannot be given it here."
                )
            if answer.status != 200:
                raise CallFailed(f"The MCP server answered {answer.status} to {method}.")
            self._note_session(answer)
            try:
                found = await _reply(answer, request_id, self._on_odd)
            except Unreadable as error:
                raise CallFailed(f"The MCP server's answer to {method} cannot be read: {error}") from None
        if found is None:
            raise CallFailed(f"The MCP server did not answer {method}.")
        if found.refusal is not None:
            raise CallFailed(f"The MCP server refused {method}: {found.refusal}")
        return found.result

    async def leave(self) -> None:
        """Ends the server's session, if it made one."""
        if self._session is None:
            return
        with contextlib.suppress(CallFailed, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS), self._send("DELETE", b""):
                pass

    def _note_session(self, answer: HttpAnswer) -> None:
        """The server's own session, and where it really is."""
        self._url = answer.url
        session = answer.headers.get("Mcp-Session-Id", "")
        if _SESSION_ID.fullmatch(session):
            self._session = session

    def _post(self, message: object) -> contextlib.AbstractAsyncContextManager[HttpAnswer]:
        return self._send("POST", msgspec.json.encode(message))

    def _send(self, method: str, body: bytes) -> contextlib.AbstractAsyncContextManager[HttpAnswer]:
        headers = {
            "Accept": "application/json, text/event-stream",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "MCP-Protocol-Version": self._version,
            "User-Agent": f"agent-gateway/{VERSION}",
        }
        secrets = {"Mcp-Session-Id": self._session} if self._session is not None else {}
        return self._calls.send(method, self._url, body, headers, secrets=secrets)


async def _reply(answer: HttpAnswer, request_id: int, on_odd: OnOdd) -> Reply | None:
    """The answer to a request out of a body, which is read no further than to it. Raises Unreadable."""
    if not answer.headers.get("Content-Type", "").lower().startswith("text/event-stream"):
        body = b"".join([chunk async for chunk in answer.chunks()])
        return reply(body, request_id, on_odd) if body.strip() else None
    events, unreadable = EventStream(), ""
    async for chunk in answer.chunks():
        for data in events.feed(chunk):
            try:
                found = reply(data, request_id, on_odd)
            except Unreadable as error:  # such as a ping in plain text; the answer may follow
                on_odd("event")
                unreadable = str(error)  # not itself: it would keep this frame until the collector comes
                continue
            if found is not None:
                return found
    if unreadable:
        raise Unreadable(unreadable)
    return None
