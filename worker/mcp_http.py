"""An MCP client over streamable HTTP, for one request: initialize, ask, leave. It blocks: run it in a thread.

The official SDK would cost each worker a second and 60 MB, and gives no hold on which address is connected
to. That hold is the point here: somebody else names the URL.

Guarantees: only http and https; unless `may_reach_private`, no address that is not public is connected to,
whatever a name resolves to, because what was checked is what is connected to; no redirect is followed; an
answer is at most `ANSWER_BYTES` long and the whole takes at most `seconds`.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from worker import acp

ANSWER_BYTES: Final = 1024 * 1024
PROTOCOL_VERSION: Final = "2025-06-18"
_EMBEDDING: Final = tuple(
    map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
)
"""IPv6 that carries an IPv4 address inside."""


class ServerFailed(Exception):
    """The server could not be asked; the message says why."""


class Ask(msgspec.Struct, frozen=True, rename="camel"):
    """The params of `_mcp/request`."""

    url: str
    method: str
    params: dict[str, Any] = {}
    may_reach_private: bool = False
    seconds: float = 15


class _Answer(msgspec.Struct, frozen=True):
    id: Any = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: acp.RpcError | None = None


def ask(request: Ask) -> dict[str, Any]:
    """`{"result": …}` of one MCP request. Raises ServerFailed."""
    server = None
    try:
        server = _Server(request)
        hello = {"protocolVersion": PROTOCOL_VERSION, "capabilities": {}, "clientInfo": _CLIENT}
        server.call(1, "initialize", hello)
        server.notify("notifications/initialized")
        return {"result": server.call(2, request.method, request.params)}
    except (
        *(OSError, http.client.HTTPException, msgspec.MsgspecError),
        *(ValueError, RecursionError),  # an address, a body or an answer that cannot be one
    ) as error:
        words = str(error) or type(error).__name__
        raise ServerFailed(f"The MCP server at {request.url} could not be asked: {words[:300]}") from None
    finally:
        if server is not None:
            server.leave()


_CLIENT: Final = {"name": "agent-gateway", "version": "1"}


class _Server:
    """One server for the time of a request."""

    def __init__(self, request: Ask) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServerFailed("An MCP server's address begins with http:// or https://.")
        self._is_secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._is_secure else 80)
        self._netloc = parts.netloc
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._may_reach_private = request.may_reach_private
        self._end = monotonic() + request.seconds
        self._session: str | None = None

    def call(self, request_id: int, method: str, params: dict[str, Any]) -> Any:
        """The result of a request. Raises ServerFailed."""
        status, kind, body = self._post(acp.request(request_id, method, params))
        if status != 200:
            raise ServerFailed(f"The MCP server answered {status} to {method}.")
        for text in _messages(kind, body):
            answer = msgspec.json.decode(text, type=_Answer)
            if answer.id != request_id:
                continue
            if answer.error is not None:
                raise ServerFailed(f"The MCP server refused {method}: {answer.error.message[:300]}")
            return msgspec.json.decode(acp.raw(answer.result))
        raise ServerFailed(f"The MCP server did not answer {method}.")

    def notify(self, method: str) -> None:
        self._post(acp.notification(method, {}))

    def leave(self) -> None:
        """Ends the server's session, if it made one; nobody waits for its word."""
        if self._session is None:
            return
        try:
            self._send("DELETE", b"")
        except (OSError, http.client.HTTPException, ServerFailed):
            return

    def _post(self, body: bytes) -> tuple[int, str, bytes]:
        status, headers, answer = self._send("POST", body)
        self._session = headers.get("mcp-session-id") or self._session
        return status, headers.get("content-type", ""), answer

    def _send(self, method: str, body: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection(self._host, self._port)
        sock = connection.sock = self._connect()
        headers = {
            "Host": self._netloc.rpartition("@")[2],
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "MCP-Protocol-Version": PROTOCOL_VERSION,
        }
        if self._session is not None:
            headers["Mcp-Session-Id"] = self._session
        try:
            connection.request(method, self._path, body.strip(), headers)
            with connection.getresponse() as response:
                return response.status, response.headers, self._read(sock, response)
        finally:
            connection.close()
            sock.close()

    def _read(self, sock: socket.socket, response: http.client.HTTPResponse) -> bytes:
        """The body; of an event stream, up to the first answer in it."""
        is_stream = response.headers.get_content_type() == "text/event-stream"
        body = b""
        while chunk := response.read1(64 * 1024):
            body += chunk
            if len(body) > ANSWER_BYTES:
                raise ServerFailed(f"The MCP server's answer is longer than {ANSWER_BYTES} bytes.")
            if is_stream and any(b'"id"' in text for text in _messages("text/event-stream", body)):
                break
            sock.settimeout(self._left())
        return body

    def _connect(self) -> socket.socket:
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if not self._may_reach_private and not all(map(is_public, addresses)):
            raise ServerFailed(f"{self._host} is not a public address, so it is not connected to.")
        sock = socket.create_connection((addresses[0], self._port), timeout=self._left())
        if not self._is_secure:
            return sock
        try:
            return ssl.create_default_context().wrap_socket(sock, server_hostname=self._host)
        except BaseException:
            sock.close()
            raise

    def _left(self) -> float:
        left = self._end - monotonic()
        if left <= 0:
            raise ServerFailed("The MCP server took too long.")
        return left


def is_public(address: str) -> bool:
    """Whether an address leads out into the world and nowhere else."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
        if any(parsed in network for network in _EMBEDDING):
            return False
    return parsed.is_global and not parsed.is_multicast


def _messages(kind: str, body: bytes) -> list[bytes]:
    """The JSON-RPC messages of an answer: a JSON body, or the whole events of a stream."""
    if not kind.startswith("text/event-stream"):
        return [body] if body.strip() else []
    events = body.replace(b"\r\n", b"\n").split(b"\n\n")[:-1]
    lines = [
        [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")] for event in events
    ]
    return [b"\n".join(data) for data in lines if data]
