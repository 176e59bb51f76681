"""What an MCP server answers, read leniently. Pure: bytes in, messages out.

Others wrote these bytes. An optional value that is missing, null or of another type counts as absent; only a
body that is no JSON at all, or nests without end, is `Unreadable`. What comes out can be encoded again: whole
numbers beyond 64 bits become fractional ones, halves of characters become U+FFFD.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
from msgspec import Struct

DEPTH: Final = 64
WORDS_CHARACTERS: Final = 300
_BOM: Final = b"\xef\xbb\xbf"
_LINE_ENDS: Final = (b"\r\n", b"\r")


class Unreadable(Exception):
    """The bytes are no JSON, or nest too deep."""


class Reply(Struct, frozen=True):
    """The answer to one request: a result, or the words of a refusal."""

    result: Any = None
    refusal: str | None = None


class EventStream:
    """The data of server-sent events, as their bytes arrive (HTML, "Server-sent events")."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that is whole now; events without data are none."""
        self._rest += chunk
        if b"\n" not in chunk and b"\r" not in chunk:  # a line that drips in is not searched again and again
            return []
        whole, rest = _lines(bytes(self._rest))
        self._rest = bytearray(rest)
        found = []
        for line in whole:
            if line:
                self._take(line)
            elif data := b"\n".join(self._data):
                found.append(data)
            if not line:
                self._data.clear()
        return found

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name.removeprefix(_BOM) == b"data":
            self._data.append(value.removeprefix(b" "))


def _lines(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole lines, and the rest; a CR at the end may be half of a line's end."""
    held = data[-1:] if data.endswith(b"\r") else b""
    text = data[: len(data) - len(held)]
    for end in _LINE_ENDS:
        text = text.replace(end, b"\n")
    *whole, rest = text.split(b"\n")
    return whole, rest + held


def reply(data: bytes, request_id: int) -> Reply | None:
    """The answer to a request, if it is in this message (or batch of messages). Raises Unreadable."""
    message = decode(data)
    for each in message if isinstance(message, list) else [message]:
        if isinstance(each, dict) and "method" not in each and _is_id(each.get("id"), request_id):
            if each.get("error") is not None:
                return Reply(refusal=_words(each["error"]))
            if "result" in each:
                return Reply(result=each["result"])
    return None


def _is_id(found: object, request_id: int) -> bool:
    return not isinstance(found, bool) and found in (request_id, str(request_id))


def _words(error: object) -> str:
    """What a server says of its refusal."""
    message = error.get("message") if isinstance(error, dict) else error
    if not isinstance(message, str):
        message = json.dumps(message) if message is not None else "without a reason"
    return message[:WORDS_CHARACTERS]


def decode(data: bytes) -> Any:
    """JSON as others write it. Raises Unreadable."""
    try:
        return tidy(_decode(data.removeprefix(_BOM)))
    except RecursionError:
        raise Unreadable("The answer nests too deep.") from None


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:  # NaN, numbers that are too large, half characters: the standard library takes them
        return json.loads(data.decode("utf-8", "replace"))
    except ValueError:
        raise Unreadable("The answer is no JSON.") from None


def tidy(value: Any, depth: int = DEPTH) -> Any:
    """The same value, as it can be encoded again. Raises Unreadable where it nests too deep."""
    if not depth:
        raise Unreadable("The answer nests too deep.")
    match value:
        case str():
            return value if value.isascii() else _mended(value)
        case dict():
            return {tidy(key, depth): tidy(item, depth - 1) for key, item in value.items()}
        case list():
            return [tidy(item, depth - 1) for item in value]
        case bool() | None:
            return value
        case int() if not -(2**63) <= value < 2**64:
            return float(value) if abs(value) < 2**1000 else None
    return value


def _mended(text: str) -> str:
    """Halves of a character that belong together are joined, others become U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
