"""The wire between gateway and worker: JSON-RPC 2.0, one message a line (Agent Client Protocol, version 1).

Pure: bytes in, messages out. Both ends use it; neither a file descriptor nor a loop is touched here.

Guarantees:
- a line is decoded once, into an envelope whose `params` and `result` stay raw bytes until somebody asks;
- a line longer than the limit is never buffered past the limit: it becomes one `Oversize`, and reading goes
  on after its newline;
- where a spool is given, a long line waits for its end outside of memory, and is decoded where it lies;
- a line that is no JSON-RPC message becomes one `Garbage` (agents print banners on stdout), never an
  exception;
- invalid UTF-8, lone surrogate escapes, a byte order mark, NaN, a value of the wrong type or range, deep
  nesting: what can be read is (worker/foreign.py), and never an exception.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, cast

import msgspec

from worker import foreign
from worker.foreign import Integer, Name, OnOdd

PROTOCOL_VERSION: Final = 1
"""The only version offered: two real agents answer "2" and go on speaking 1."""

LINE_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""Images and tool output travel inside one line; asyncio's default of 64 KiB kills readers."""

SPOOL_ABOVE_BYTES: Final = 256 * 1024
"""A longer line is spooled, if there is a spool."""
NAME_BYTES: Final = 1024
"""An id or a method is at most so long."""
ERROR_BYTES: Final = 256 * 1024
"""The error of a long line is at most so long."""
PARSE_BYTES: Final = 1024 * 1024
"""`params` and `result` with a shape of their own are at most so long: what is long in them is raw."""
LONE_SURROGATES: Final = 10_000
"""A line with more of them is garbage."""

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
AUTH_REQUIRED: Final = -32000
"""ACP's error for `session/new` when the agent wants credentials."""

_MethodName = Name | None
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
        """The id, None if the member is absent."""
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


class Unspoolable(msgspec.Struct, frozen=True):
    """A long line could not be kept until its end; `reason` says why."""

    reason: str


class Spool(Protocol):
    """Keeps a long line until its end, outside of memory."""

    def write(self, data: bytes) -> None:
        """Adds to the end. Raises OSError."""

    def lines(self) -> Any:
        """All of it as one writable buffer. Raises OSError."""

    def used(self, count: int) -> None:
        """The first so many bytes of the buffer are not looked at again."""

    def drop(self) -> None:
        """Forgets what is kept; called once. A buffer that was given stays good."""


class Spooled(msgspec.Struct, frozen=True):
    """A long line that has ended and is not decoded yet."""

    spool: Spool
    size_bytes: int

    def decode(self) -> Envelope | Garbage | Unspoolable:
        """The message; what is raw in it is a view of the spool's buffer."""
        try:
            return _decode_long(self.spool.lines())
        except OSError as error:
            return Unspoolable(error.strerror or str(error))


AcpMessage = Envelope | Garbage | Oversize | Spooled | Unspoolable


class _Long(msgspec.Struct, frozen=True):
    """An envelope of which nothing is decoded that could be long."""

    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    method: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    params: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_BEFORE_AN_OBJECT: Final = b" \t\r\n\xef\xbb\xbf"
"""White space, and the bytes of a byte order mark."""
_decode_long_envelope = msgspec.json.Decoder(_Long).decode
_encoder = msgspec.json.Encoder()
_EMPTY_OBJECT: Final = msgspec.Raw(b"{}")
_GARBAGE_KEPT_BYTES: Final = 400
_NO_ERROR: Final = RpcError(message="The other side answered with an error that cannot be read.")


class Lines:
    """Splits a byte stream into messages, whatever the chunks it arrives in."""

    def __init__(
        self,
        *,
        limit_bytes: int = LINE_LIMIT_BYTES,
        spool: Callable[[], Spool] | None = None,
        on_odd: OnOdd = foreign.ignored,
    ) -> None:
        self._limit = limit_bytes
        self._most_at_once = min(limit_bytes, SPOOL_ABOVE_BYTES)
        self._on_odd = on_odd
        self._new_spool = spool
        self._parts: list[bytes] = []
        self._held = 0
        self._skipping = False
        self._spool: Spool | None = None
        self._mending = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def held_bytes(self) -> int:
        """Bytes of the unfinished line, in memory or in the spool; never more than the limit."""
        return self._held

    def feed(self, chunk: bytes) -> list[AcpMessage]:
        """The messages that this chunk completes, in order."""
        *finished, rest = chunk.split(b"\n")
        messages: list[AcpMessage] = []
        for part in finished:
            self._hold(part, messages)
            self._finish(messages)
        self._hold(rest, messages)
        return messages

    def whole(self, chunk: bytes) -> bytes:
        """The lines that this chunk completes, to be read by the caller, who says then that they were
        `passed`; empty if they cannot be, because one of them is long.
        """
        end = chunk.rfind(b"\n") + 1
        if self._skipping or self._spool is not None or self._held + len(chunk) > self._most_at_once:
            return b""
        return b"".join((*self._parts, chunk[:end])) if end and self._parts else chunk[:end]

    def passed(self, chunk: bytes) -> None:
        """The lines that this chunk completes were read: only what follows them is kept."""
        rest = chunk[chunk.rfind(b"\n") + 1 :]
        self._parts = [rest] if rest else []
        self._held = len(rest)

    def close(self) -> None:
        """Forgets the unfinished line."""
        self._drop()

    def _hold(self, part: bytes, messages: list[AcpMessage]) -> None:
        if self._skipping or not part:
            return
        if self._held + len(part) > self._limit:
            self._skip(Oversize(self._limit), messages)
            return
        self._held += len(part)
        if self._spool is None and (self._new_spool is None or self._held <= SPOOL_ABOVE_BYTES):
            self._parts.append(part)
            return
        try:
            self._write(part)
        except OSError as error:
            self._skip(Unspoolable(error.strerror or str(error)), messages)

    def _write(self, part: bytes) -> None:
        """Into the spool, as valid UTF-8. Raises OSError."""
        if self._spool is None:
            assert self._new_spool is not None  # noqa: S101 - _hold asked
            self._spool = self._new_spool()
            part, self._parts = b"".join((*self._parts, part)), []
        if not part.isascii() or self._mending.getstate()[0]:
            part = self._mending.decode(part).encode()
        self._spool.write(part)

    def _skip(self, instead: AcpMessage, messages: list[AcpMessage]) -> None:
        """The rest of this line is not kept."""
        self._drop()
        self._skipping = True
        messages.append(instead)

    def _finish(self, messages: list[AcpMessage]) -> None:
        if self._skipping:
            self._skipping = False
            return
        if self._spool is not None:
            self._finish_spool(self._spool, messages)
            return
        line = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._drop()
        if not line or line.isspace():
            return
        messages.append(decode(line, self._on_odd))

    def _finish_spool(self, spool: Spool, messages: list[AcpMessage]) -> None:
        try:
            spool.write(self._mending.decode(b"", final=True).encode())
        except OSError as error:
            self._drop()
            messages.append(Unspoolable(error.strerror or str(error)))
            return
        messages.append(Spooled(spool, self._held))
        self._spool = None
        self._drop()

    def _drop(self) -> None:
        self._parts.clear()
        self._held = 0
        self._mending.reset()
        if self._spool is not None:
            self._spool.drop()
            self._spool = None


def decode(line: bytes, on_odd: OnOdd = foreign.ignored) -> AcpMessage:
    """One line as a message; anything that is not JSON-RPC is `Garbage`."""
    if not line.startswith(b"{") and not line.lstrip(_BEFORE_AN_OBJECT).startswith(b"{"):
        return _garbage(line)
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
    if (message.method is None and message.id is msgspec.UNSET) or _has_long_name(message):
        return _garbage(line)
    return message


def _has_long_name(message: Envelope) -> bool:
    """Whether its id or method is too long to be kept, or said back."""
    return (isinstance(message.id, str) and len(message.id) > NAME_BYTES) or (
        message.method is not None and len(message.method) > NAME_BYTES
    )


_LONE: Final = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+"
    rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
"""Up to the end of the next escape of half a surrogate pair; whole pairs and other escapes are passed."""
_ESCAPE: Final = len(rb"\ud800")


def _mend_surrogates(line: Any) -> bool:
    """Makes every lone surrogate escape (legal JSON, no legal Unicode) in a writable buffer U+FFFD, in place;
    False if there are too many.
    """
    end = 0
    for _ in range(LONE_SURROGATES):
        found = _LONE.match(line, end)
        if found is None:
            return True
        end = found.end()
        line[end - _ESCAPE : end] = b"\\ufffd"
    return _LONE.match(line, end) is None


def _decode_long(line: Any) -> Envelope | Garbage:
    """A long line as a message, without a copy of it; the buffer is valid UTF-8."""
    if foreign.is_deep(line):
        return _garbage(line[:_GARBAGE_KEPT_BYTES])
    if (line.find(b"\\ud") >= 0 or line.find(b"\\uD") >= 0) and not _mend_surrogates(line):
        return _garbage(line[:_GARBAGE_KEPT_BYTES])
    try:
        long = _decode_long_envelope(line)
        if max(_size(long.id), _size(long.method)) > NAME_BYTES + len(b'""'):
            return _garbage(line[:_GARBAGE_KEPT_BYTES])
        message = Envelope(
            foreign.decode(long.id, cast("Any", Id)) if isinstance(long.id, msgspec.Raw) else msgspec.UNSET,
            _method(long.method),
            long.params,
            long.result,
            _long_error(long.error),
        )
    except (msgspec.DecodeError, RecursionError):
        return _garbage(line[:_GARBAGE_KEPT_BYTES])
    if message.method is None and message.id is msgspec.UNSET:
        return _garbage(line[:_GARBAGE_KEPT_BYTES])
    return message


def _method(method: msgspec.Raw | msgspec.UnsetType) -> str | None:
    return None if isinstance(method, msgspec.UnsetType) else foreign.decode(method, cast("Any", _MethodName))


def _long_error(error: msgspec.Raw | msgspec.UnsetType) -> RpcError | msgspec.UnsetType | None:
    if isinstance(error, msgspec.UnsetType):
        return error
    if _size(error) > ERROR_BYTES:
        return RpcError(message="The agent failed with words too long to show.")
    try:
        return foreign.decode(error, RpcError)
    except msgspec.DecodeError:
        return None if bytes(error) == b"null" else _NO_ERROR


def _size(value: msgspec.Raw | msgspec.UnsetType) -> int:
    return 0 if isinstance(value, msgspec.UnsetType) else memoryview(value).nbytes


def _garbage(line: bytes) -> Garbage:
    return Garbage(line[:_GARBAGE_KEPT_BYTES].decode("utf-8", "replace"))


def parse(
    value: msgspec.Raw | msgspec.UnsetType,
    kind: type[T],
    on_odd: OnOdd = foreign.ignored,
    *,
    limit_bytes: int | None = None,
) -> T:
    """`params` or `result` as `kind` (`{}` where absent or null), read leniently (worker/foreign.py).

    Raises msgspec.DecodeError (its subclass ValidationError names the path) where the shape does not fit, or
    if it is longer than `limit_bytes` (None: any length, for shapes whose long members are raw).
    """
    body = memoryview(raw(value))
    if limit_bytes is not None and body.nbytes > limit_bytes:
        raise msgspec.DecodeError(f"It is longer than {limit_bytes} bytes.")
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
    return in_one_line(_encoder.encode(message)) + b"\n"


def in_one_line(json: bytes) -> bytes:
    """JSON that is framed by lines, with what Unicode counts as their ends escaped: U+2028, U+2029, U+0085.

    Readers that split text into lines by Unicode's rules, as readline of Node.js does, would cut a value in
    two.
    """
    if json.isascii():
        return json
    for raw, escape in _LINE_ENDS:
        json = json.replace(raw, escape)
    return json


_LINE_ENDS: Final = (
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
    ("\u0085".encode(), b"\\u0085"),
)
