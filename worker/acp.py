"""The wire between gateway and worker: JSON-RPC 2.0, one message a line (Agent Client Protocol, version 1).

Pure: bytes in, messages out. Both ends use it; neither a file descriptor nor a loop is touched here.

Guarantees:
- a line is decoded once, into an envelope whose `params` and `result` stay raw bytes until somebody asks;
- a line longer than the limit is never buffered past the limit: it becomes one `Oversize`, and reading goes
  on after its newline;
- a line that is no JSON-RPC message becomes one `Garbage` (agents print banners on stdout), never an
  exception;
- invalid UTF-8, lone surrogate escapes, a byte order mark, NaN, a value of the wrong type or range, deep
  nesting: what can be read is (worker/foreign.py), and never an exception.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from worker import foreign
from worker.foreign import Integer, Name, OnOdd

PROTOCOL_VERSION: Final = 1
"""The only version offered: two real agents answer "2" and go on speaking 1."""

LINE_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""Images and tool output travel inside one line; asyncio's default of 64 KiB kills readers."""

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
AUTH_REQUIRED: Final = -32000
"""ACP's error for `session/new` when the agent wants credentials."""

Id = Integer | str | None
T = TypeVar("T")


class RpcError(msgspec.Struct, frozen=True):
    """The `error` member of a response (JSON-RPC 2.0, section 5.1)."""

    code: Integer = INTERNAL_ERROR
    message: Name = ""
    data: Any = None


class Envelope(msgspec.Struct, frozen=True):
    """One JSON-RPC message; which members are set shows if it is a request, a notification or a response.

    `id` is UNSET where the member is absent: 0 is a valid id, and falsy.
    """

    id: Id | msgspec.UnsetType = msgspec.UNSET
    method: Name | None = None
    params: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: RpcError | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def id_or_none(self) -> Id:
        """The id, None where the member is absent."""
        return None if isinstance(self.id, msgspec.UnsetType) else self.id

    @property
    def is_request(self) -> bool:
        return self.method is not None and self.id is not msgspec.UNSET

    @property
    def is_notification(self) -> bool:
        return self.method is not None and self.id is msgspec.UNSET

    @property
    def is_response(self) -> bool:
        return self.method is None and self.id is not msgspec.UNSET


class Garbage(msgspec.Struct, frozen=True):
    """A line that is not a JSON-RPC message; `text` is its beginning, for the log."""

    text: str


class Oversize(msgspec.Struct, frozen=True):
    """A line longer than the limit; its bytes were dropped."""

    limit_bytes: int


Message = Envelope | Garbage | Oversize

_encoder = msgspec.json.Encoder()
_EMPTY_OBJECT: Final = msgspec.Raw(b"{}")
_GARBAGE_KEPT_BYTES: Final = 400
_NO_ERROR: Final = RpcError(message="The other side answered with an error that cannot be read.")


class Lines:
    """Splits a byte stream into messages, whatever the chunks it arrives in."""

    def __init__(self, *, limit_bytes: int = LINE_LIMIT_BYTES, on_odd: OnOdd = foreign.ignored) -> None:
        self._limit = limit_bytes
        self._on_odd = on_odd
        self._parts: list[bytes] = []
        self._held = 0
        self._skipping = False

    @property
    def held_bytes(self) -> int:
        """Bytes of the unfinished line held in memory; never more than the limit."""
        return self._held

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that this chunk completes, in order."""
        *finished, rest = chunk.split(b"\n")
        messages: list[Message] = []
        for part in finished:
            self._hold(part, messages)
            self._finish(messages)
        self._hold(rest, messages)
        return messages

    def _hold(self, part: bytes, messages: list[Message]) -> None:
        if self._skipping or not part:
            return
        if self._held + len(part) > self._limit:
            self._drop()
            self._skipping = True
            messages.append(Oversize(self._limit))
            return
        self._parts.append(part)
        self._held += len(part)

    def _finish(self, messages: list[Message]) -> None:
        if self._skipping:
            self._skipping = False
            return
        line = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._drop()
        if not line or line.isspace():
            return
        messages.append(decode(line, self._on_odd))

    def _drop(self) -> None:
        self._parts.clear()
        self._held = 0


def decode(line: bytes, on_odd: OnOdd = foreign.ignored) -> Message:
    """One line as a message; anything that is not JSON-RPC is `Garbage`."""
    line = foreign.tidied(line, on_odd)
    odd: list[str] = []
    try:
        message = foreign.decode(line, Envelope, odd.append)
    except msgspec.DecodeError:
        return _garbage(line)
    if odd:
        for path in odd:
            on_odd(path)
        if "id" in odd:
            return _garbage(line)
        if "error" in odd:
            message = msgspec.structs.replace(message, error=_NO_ERROR)
    if message.method is None and message.id is msgspec.UNSET:
        return _garbage(line)
    return message


def _garbage(line: bytes) -> Garbage:
    return Garbage(line[:_GARBAGE_KEPT_BYTES].decode("utf-8", "replace"))


def parse(value: msgspec.Raw | msgspec.UnsetType, kind: type[T], on_odd: OnOdd = foreign.ignored) -> T:
    """`params` or `result` as `kind` (`{}` where absent or null), read leniently (worker/foreign.py).

    Raises msgspec.DecodeError (its subclass ValidationError names the path) where the shape does not fit.
    """
    body = memoryview(raw(value))
    if body.nbytes == len(b"null") and body.tobytes() == b"null":
        body = memoryview(_EMPTY_OBJECT)
    return foreign.decode(body, kind, on_odd)


def request(request_id: Id, method: str, params: object) -> bytes:
    """A request as one line, newline included."""
    return _line({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def notification(method: str, params: object) -> bytes:
    """A notification as one line, newline included."""
    return _line({"jsonrpc": "2.0", "method": method, "params": params})


def response(request_id: Id, result: object) -> bytes:
    """A successful response as one line, newline included."""
    return _line({"jsonrpc": "2.0", "id": request_id, "result": result})


def error_response(request_id: Id, code: int, message: str, data: object = None) -> bytes:
    """A failed response as one line, newline included."""
    error: dict[str, object] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return _line({"jsonrpc": "2.0", "id": request_id, "error": error})


def raw(value: msgspec.Raw | msgspec.UnsetType) -> msgspec.Raw:
    """`params` or `result` as bytes, `{}` where the member is absent."""
    return _EMPTY_OBJECT if isinstance(value, msgspec.UnsetType) else value


def _line(message: object) -> bytes:
    return _encoder.encode(message) + b"\n"
