"""The wire between gateway and worker: JSON-RPC 2.0, one message a line (Agent Client Protocol, version 1).

Pure: bytes in, messages out. Both ends use it; neither a file descriptor nor a loop is touched here.

Guarantees:
- a line is decoded once, into an envelope whose `params` and `result` stay raw bytes until somebody asks;
- a line longer than the limit is never buffered past the limit: it becomes one `Oversize`, and reading goes
  on after its newline;
- a line that is no JSON-RPC message becomes one `Garbage` (agents print banners on stdout), never an
  exception;
- invalid UTF-8 and lone surrogate escapes become U+FFFD, never an exception.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

import msgspec

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

Id = int | str | None
T = TypeVar("T")


class RpcError(msgspec.Struct, frozen=True):
    """The `error` member of a response (JSON-RPC 2.0, section 5.1)."""

    code: int = INTERNAL_ERROR
    message: str = ""
    data: Any = None


class Envelope(msgspec.Struct, frozen=True):
    """One JSON-RPC message; which members are set shows if it is a request, a notification or a response.

    `id` is UNSET where the member is absent: 0 is a valid id, and falsy.
    """

    id: Id | msgspec.UnsetType = msgspec.UNSET
    method: str | None = None
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

_decode_envelope = msgspec.json.Decoder(Envelope).decode
_encoder = msgspec.json.Encoder()
_EMPTY_OBJECT: Final = msgspec.Raw(b"{}")
_GARBAGE_KEPT_BYTES: Final = 400
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


class Lines:
    """Splits a byte stream into messages, whatever the chunks it arrives in."""

    def __init__(self, *, limit_bytes: int = LINE_LIMIT_BYTES) -> None:
        self._limit = limit_bytes
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
        messages.append(decode(line))

    def _drop(self) -> None:
        self._parts.clear()
        self._held = 0


def decode(line: bytes) -> Message:
    """One line as a message; anything that is not JSON-RPC is `Garbage`."""
    if not line.isascii():
        line = _valid_utf8(line)
    if b"\\ud" in line or b"\\uD" in line:
        line = _paired_surrogates(line)
    try:
        message = _decode_envelope(line)
    except (msgspec.DecodeError, RecursionError):
        return _garbage(line)
    if message.method is None and message.id is msgspec.UNSET:
        return _garbage(line)
    return message


def _valid_utf8(line: bytes) -> bytes:
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode("utf-8", "replace").encode()
    return line


def _paired_surrogates(line: bytes) -> bytes:
    """The line with every lone surrogate escape (legal JSON, no legal Unicode) as U+FFFD."""
    try:
        text = json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return line
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _garbage(line: bytes) -> Garbage:
    return Garbage(line[:_GARBAGE_KEPT_BYTES].decode("utf-8", "replace"))


def parse(value: msgspec.Raw | msgspec.UnsetType, kind: type[T]) -> T:
    """`params` or `result` as `kind` (`{}` where absent or null).

    Raises msgspec.DecodeError (its subclass ValidationError names the path) where the shape does not fit.
    """
    body = memoryview(raw(value))
    if body.nbytes == len(b"null") and body.tobytes() == b"null":
        body = memoryview(_EMPTY_OBJECT)
    try:
        return _decoder(kind).decode(body)
    except RecursionError as error:
        raise msgspec.DecodeError(str(error)) from None


def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """One decoder a type: building it costs ten times what a small message does."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder


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
